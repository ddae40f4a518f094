// SimNPU's arithmetic: the loops.
#include "kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace simnpu {
namespace {

using Unary = float (*)(float);
using Binary = float (*)(float, float);

const std::map<std::string, Unary>& unary() {
  static const std::map<std::string, Unary> table = {
      {"Relu", [](float x) { return std::isnan(x) || x > 0 ? x : 0.0f; }},
      {"Tanh", [](float x) { return std::tanh(x); }},
      {"Sigmoid", [](float x) { return 1 / (1 + std::exp(-x)); }},
      {"Neg", [](float x) { return -x; }},
      {"Abs", [](float x) { return std::fabs(x); }},
      {"Exp", [](float x) { return std::exp(x); }},
      {"Sqrt", [](float x) { return std::sqrt(x); }},
      {"Identity", [](float x) { return x; }},
  };
  return table;
}

const std::map<std::string, Binary>& binary() {
  static const std::map<std::string, Binary> table = {
      {"Add", [](float a, float b) { return a + b; }},
      {"Sub", [](float a, float b) { return a - b; }},
      {"Mul", [](float a, float b) { return a * b; }},
      {"Div", [](float a, float b) { return a / b; }},
  };
  return table;
}

// Multidirectional broadcasting: dimensions are matched from the last one, 1 stretches.
std::vector<int64_t> broadcast(const std::vector<int64_t>& a, const std::vector<int64_t>& b, std::string* problem) {
  std::vector<int64_t> shape(std::max(a.size(), b.size()));
  for (std::size_t back = 1; back <= shape.size(); ++back) {
    const int64_t left = back <= a.size() ? a[a.size() - back] : 1;
    const int64_t right = back <= b.size() ? b[b.size() - back] : 1;
    if (left != right && left != 1 && right != 1) *problem = "shapes that do not broadcast";
    shape[shape.size() - back] = left == 1 ? right : left;
  }
  return shape;
}

// Where in `from` the element of the result at `index` comes from.
std::size_t source(std::size_t index, const std::vector<int64_t>& shape, const std::vector<int64_t>& from) {
  std::size_t at = 0, stride = 1;
  for (std::size_t back = 1; back <= shape.size(); ++back) {
    const auto size = static_cast<std::size_t>(shape[shape.size() - back]);
    if (back <= from.size()) {
      const auto own = static_cast<std::size_t>(from[from.size() - back]);
      if (own != 1) at += (index % size) * stride;
      stride *= own;
    }
    index /= size;
  }
  return at;
}

void gemm(const Program& program, const std::vector<Tensor>& in, const std::vector<int64_t>& shape, float* out) {
  const int64_t rows = shape[0], columns = shape[1];
  const int64_t depth = program.transpose_a ? in[0].shape[0] : in[0].shape[1];
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column) {
      float sum = 0;
      for (int64_t k = 0; k < depth; ++k)
        sum += in[0].data[program.transpose_a ? k * rows + row : row * depth + k] *
               in[1].data[program.transpose_b ? column * depth + k : k * columns + column];
      const auto at = static_cast<std::size_t>(row * columns + column);
      out[at] = program.alpha * sum;
      if (in.size() > 2) out[at] += program.beta * in[2].data[source(at, shape, in[2].shape)];
    }
}

void softmax(const Tensor& in, float* out) {
  const auto width = static_cast<std::size_t>(in.shape.back());
  for (std::size_t start = 0; start < count(in.shape); start += width) {
    const float* x = in.data + start;
    const float largest = *std::max_element(x, x + width);
    float sum = 0;
    for (std::size_t i = 0; i < width; ++i) sum += out[start + i] = std::exp(x[i] - largest);
    for (std::size_t i = 0; i < width; ++i) out[start + i] /= sum;
  }
}

std::vector<int64_t> matrix_shape(const Program& program, const std::vector<Tensor>& in, std::string* problem) {
  if (in[0].shape.size() != 2 || in[1].shape.size() != 2) {
    *problem = "matrices of other than two dimensions";
    return {};
  }
  const bool a = program.transpose_a, b = program.transpose_b;
  if (in[0].shape[a ? 0 : 1] != in[1].shape[b ? 1 : 0]) *problem = "matrices that do not multiply";
  return {in[0].shape[a ? 1 : 0], in[1].shape[b ? 0 : 1]};
}

}  // namespace

std::size_t count(const std::vector<int64_t>& shape) {
  std::size_t product = 1;
  for (const int64_t size : shape) product *= static_cast<std::size_t>(size);
  return product;
}

bool known(const std::string& op) {
  return unary().count(op) || binary().count(op) || op == "Gemm" || op == "MatMul" || op == "Softmax" ||
         op == "Flatten";
}

std::vector<int64_t> result_shape(const Program& program, const std::vector<Tensor>& in, std::string* problem) {
  problem->clear();
  if (binary().count(program.op)) return broadcast(in[0].shape, in[1].shape, problem);
  if (program.op == "Gemm" || program.op == "MatMul") return matrix_shape(program, in, problem);
  if (program.op == "Flatten") {
    const int64_t rows = in[0].shape.empty() ? 1 : in[0].shape[0];
    const auto all = static_cast<int64_t>(count(in[0].shape));
    return {rows, rows ? all / rows : 0};
  }
  return in[0].shape;
}

void compute(const Program& program, const std::vector<Tensor>& in, const std::vector<int64_t>& shape, float* out) {
  const std::size_t size = count(shape);
  if (size == 0) return;
  const auto one = unary().find(program.op);
  const auto two = binary().find(program.op);
  if (one != unary().end()) {
    for (std::size_t i = 0; i < size; ++i) out[i] = one->second(in[0].data[i]);
  } else if (two != binary().end()) {
    for (std::size_t i = 0; i < size; ++i)
      out[i] = two->second(in[0].data[source(i, shape, in[0].shape)], in[1].data[source(i, shape, in[1].shape)]);
  } else if (program.op == "Softmax") {
    softmax(in[0], out);
  } else if (program.op == "Flatten") {
    std::copy(in[0].data, in[0].data + size, out);
  } else {
    gemm(program, in, shape, out);
  }
  if (program.half) std::transform(out, out + size, out, half_rounded);
}

float half_rounded(float value) {
  if (!std::isfinite(value) || value == 0) return value;
  int exponent = 0;
  std::frexp(value, &exponent);
  // 11 significant bits; below 2^-14 the spacing stays 2^-24.
  const float spacing = std::ldexp(1.0f, std::max(exponent - 11, -24));
  const float rounded = std::nearbyint(value / spacing) * spacing;
  return std::fabs(rounded) > 65504 ? std::copysign(std::numeric_limits<float>::infinity(), value) : rounded;
}

}  // namespace simnpu
