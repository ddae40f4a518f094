// SimNPU's compiler: what it takes of a graph, the program of a node, and the same program as an EPContext node.
#include <algorithm>
#include <cstring>
#include <sstream>

#include "provider.h"

namespace simnpu {
namespace {

constexpr std::size_t kMost = 4096;  // Bytes of a context; ours has less than 200.
const char* const kMagic = "SIMNPU1";

using Values = std::vector<const OrtValueInfo*>;

OrtStatus* inputs_of(const OrtNode* node, Values* values) {
  std::size_t size = 0;
  RETURN_IF_FAILED(api->Node_GetNumInputs(node, &size));
  values->resize(size);
  return api->Node_GetInputs(node, values->data(), size);
}

OrtStatus* outputs_of(const OrtNode* node, Values* values) {
  std::size_t size = 0;
  RETURN_IF_FAILED(api->Node_GetNumOutputs(node, &size));
  values->resize(size);
  return api->Node_GetOutputs(node, values->data(), size);
}

OrtStatus* names_of(const Values& values, std::vector<std::string>* names) {
  for (const OrtValueInfo* value : values) {
    const char* name = "";
    if (value) RETURN_IF_FAILED(api->GetValueInfoName(value, &name));
    names->push_back(name);
  }
  return nullptr;
}

const OrtOpAttr* attribute(const OrtNode* node, const char* name) {
  const OrtOpAttr* found = nullptr;
  if (OrtStatus* none = api->Node_GetAttributeByName(node, name, &found)) {
    api->ReleaseStatus(none);
    return nullptr;
  }
  return found;
}

template <typename T>
bool read_number(const OrtNode* node, const char* name, AttributeType type, T* value) {
  const OrtOpAttr* found = attribute(node, name);
  std::size_t used = 0;
  if (!found) return false;
  if (OrtStatus* other = api->ReadOpAttr(found, type, value, sizeof(T), &used)) {
    api->ReleaseStatus(other);
    return false;
  }
  return true;
}

OrtStatus* read_text(const OrtNode* node, const char* name, std::string* text) {
  const OrtOpAttr* found = attribute(node, name);
  if (!found) return error(kInvalidGraph, std::string("SimNPU: a context without ") + name);
  char room[kMost];
  std::size_t used = 0;
  RETURN_IF_FAILED(api->ReadOpAttr(found, kString, room, sizeof room, &used));
  text->assign(room, strnlen(room, std::min(used, sizeof room)));
  return nullptr;
}

// A float32 tensor and its dimensions (-1 where free); false for anything else.
bool float_tensor(const OrtValueInfo* value, std::vector<int64_t>* shape) {
  const OrtTypeInfo* type = nullptr;
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;
  OrtStatus* failed = value ? api->GetValueInfoTypeInfo(value, &type) : nullptr;
  if (!failed && type) failed = api->CastTypeInfoToTensorInfo(type, &tensor);
  int element = 0;
  std::size_t rank = 0;
  if (!failed && tensor) failed = api->GetTensorElementType(tensor, &element);
  if (!failed && tensor) failed = api->GetDimensionsCount(tensor, &rank);
  shape->resize(rank);
  if (!failed && tensor) failed = api->GetDimensions(tensor, shape->data(), rank);
  if (failed) api->ReleaseStatus(failed);
  return !failed && tensor && element == kElementFloat;
}

// What of an operator's attributes SimNPU has; the rest it leaves to others.
bool suits(const std::string& op, const OrtNode* node, const std::vector<std::vector<int64_t>>& shapes) {
  const auto rank = static_cast<int64_t>(shapes[0].size());
  int64_t axis = 0;
  if (op == "Gemm") return shapes.size() >= 2 && rank == 2 && shapes[1].size() == 2;
  if (op == "MatMul") return rank == 2 && shapes[1].size() == 2;
  if (op == "Flatten") return rank >= 1 && (!read_number(node, "axis", kInt, &axis) || axis == 1);
  // Without an axis it means another one below opset 13, but for two dimensions.
  if (op == "Softmax") return read_number(node, "axis", kInt, &axis) ? axis == -1 || axis == rank - 1 : rank == 2;
  return op == "Add" || op == "Sub" || op == "Mul" || op == "Div" ? shapes.size() == 2 : shapes.size() == 1;
}

OrtStatus* restored(const OrtNode* node, Program* program) {
  std::string text, magic;
  RETURN_IF_FAILED(read_text(node, "ep_cache_context", &text));
  std::istringstream in(text);
  std::size_t size = 0;
  in >> magic >> program->op >> program->half >> program->alpha >> program->beta >> program->transpose_a >>
      program->transpose_b >> size;
  if (!in || magic != kMagic || !known(program->op) || size > 8)
    return error(kInvalidGraph, "SimNPU: this context was made by another toolchain, or is damaged: compile it again");
  for (std::size_t place = 0; place < size; ++place) program->inputs.push_back(place);
  return nullptr;
}

}  // namespace

OrtStatus* claims(const Settings& settings, const OrtNode* node, bool* claimed) {
  *claimed = false;
  const char* op = nullptr;
  const char* domain = nullptr;
  RETURN_IF_FAILED(api->Node_GetOperatorType(node, &op));
  RETURN_IF_FAILED(api->Node_GetDomain(node, &domain));
  if (std::strcmp(op, "EPContext") == 0) {
    std::string source;
    RETURN_IF_FAILED(read_text(node, "source", &source));
    *claimed = source == kName;
    return nullptr;
  }
  const bool ours = settings.ops.empty() ? known(op) : settings.ops.count(op) > 0;
  if (!ours || (*domain && std::strcmp(domain, "ai.onnx") != 0)) return nullptr;
  Values values;
  RETURN_IF_FAILED(inputs_of(node, &values));
  std::vector<std::vector<int64_t>> shapes(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!float_tensor(values[i], &shapes[i])) return nullptr;
    const bool free = std::any_of(shapes[i].begin(), shapes[i].end(), [](int64_t size) { return size < 0; });
    if (free && settings.static_only) return nullptr;
  }
  *claimed = !shapes.empty() && suits(op, node, shapes);
  return nullptr;
}

OrtStatus* compiled(const Settings& settings, const OrtNode* node, const OrtNode* fused, Program* program) {
  const char* op = nullptr;
  RETURN_IF_FAILED(api->Node_GetOperatorType(node, &op));
  if (std::strcmp(op, "EPContext") == 0) return restored(node, program);
  program->op = op;
  program->half = settings.half;
  int64_t transposed = 0;
  read_number(node, "alpha", kFloat, &program->alpha);
  read_number(node, "beta", kFloat, &program->beta);
  program->transpose_a = read_number(node, "transA", kInt, &transposed) && transposed;
  program->transpose_b = read_number(node, "transB", kInt, &transposed) && transposed;
  Values own, outer;
  std::vector<std::string> wanted, given;
  RETURN_IF_FAILED(inputs_of(node, &own));
  RETURN_IF_FAILED(inputs_of(fused, &outer));
  RETURN_IF_FAILED(names_of(own, &wanted));
  RETURN_IF_FAILED(names_of(outer, &given));
  for (const std::string& name : wanted) {
    const auto place = std::find(given.begin(), given.end(), name);
    if (place == given.end()) return error(kEpFail, "SimNPU: the fused node lacks the input " + name);
    program->inputs.push_back(static_cast<std::size_t>(place - given.begin()));
  }
  return nullptr;
}

OrtStatus* context_node(const Program& program, const OrtNode* fused, OrtNode** made) {
  std::ostringstream text;
  text << kMagic << ' ' << program.op << ' ' << program.half << ' ' << program.alpha << ' ' << program.beta << ' '
       << program.transpose_a << ' ' << program.transpose_b << ' ' << program.inputs.size();
  Values values;
  std::vector<std::string> given, results;
  RETURN_IF_FAILED(inputs_of(fused, &values));
  RETURN_IF_FAILED(names_of(values, &given));
  RETURN_IF_FAILED(outputs_of(fused, &values));
  RETURN_IF_FAILED(names_of(values, &results));
  std::vector<const char*> in, out;
  for (const std::size_t place : program.inputs) in.push_back(given[place].c_str());
  for (const std::string& name : results) out.push_back(name.c_str());
  const std::string content = text.str();
  const int64_t yes = 1;
  OrtOpAttr* attributes[4];
  RETURN_IF_FAILED(api->CreateOpAttr("embed_mode", &yes, 1, kInt, &attributes[0]));
  RETURN_IF_FAILED(api->CreateOpAttr("ep_cache_context", content.c_str(), static_cast<int>(content.size()), kString,
                                     &attributes[1]));
  RETURN_IF_FAILED(api->CreateOpAttr("source", kName, static_cast<int>(std::strlen(kName)), kString, &attributes[2]));
  RETURN_IF_FAILED(api->CreateOpAttr("main_context", &yes, 1, kInt, &attributes[3]));
  const char* name = nullptr;
  RETURN_IF_FAILED(api->Node_GetName(fused, &name));
  return editor->CreateNode("EPContext", "com.microsoft", name, in.data(), in.size(), out.data(), out.size(),
                            attributes, 4, made);
}

}  // namespace simnpu
