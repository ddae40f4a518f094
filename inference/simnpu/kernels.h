// SimNPU's arithmetic: plain loops over float32, each result rounded to half precision where it is asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace simnpu {

struct Tensor {
  const float* data;
  std::vector<int64_t> shape;
};

// What one node is compiled to.
struct Program {
  std::string op;
  bool half = false;
  float alpha = 1, beta = 1;
  bool transpose_a = false, transpose_b = false;
  std::vector<std::size_t> inputs;  // Places among the inputs of the fused node.
};

std::size_t count(const std::vector<int64_t>& shape);

// Whether a program exists for this operator, whatever its attributes.
bool known(const std::string& op);

// The shape of the result; empty text in `problem` where the inputs suit the operator.
std::vector<int64_t> result_shape(const Program&, const std::vector<Tensor>&, std::string* problem);

// Fills `out`, which has room for the shape above.
void compute(const Program&, const std::vector<Tensor>&, const std::vector<int64_t>& shape, float* out);

// The nearest number of IEEE 754 binary16, ties to even; beyond 65504 infinite.
float half_rounded(float value);

}  // namespace simnpu
