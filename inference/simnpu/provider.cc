// SimNPU as an execution provider: the functions that ONNX Runtime calls for a session.
#include "provider.h"

#include <csignal>
#include <cstring>

#include <unistd.h>

namespace simnpu {
namespace {

constexpr std::size_t kLeak = std::size_t{32} << 20;  // Bytes that a leaking device takes at each run.

const char* name(const OrtEp*) noexcept { return kName; }

const char* compatibility(OrtEp*, const OrtGraph*) noexcept { return "simnpu-toolchain=1"; }

OrtStatus* nodes_of(const OrtGraph* graph, std::vector<const OrtNode*>* nodes) {
  std::size_t size = 0;
  RETURN_IF_FAILED(api->Graph_GetNumNodes(graph, &size));
  nodes->resize(size);
  return api->Graph_GetNodes(graph, nodes->data(), size);
}

OrtStatus* capability(OrtEp* self, const OrtGraph* graph, OrtEpGraphSupportInfo* support) noexcept {
  const Settings& settings = static_cast<Provider*>(self)->settings;
  std::vector<const OrtNode*> nodes;
  RETURN_IF_FAILED(nodes_of(graph, &nodes));
  const NodeFusionOptions options{kAbiVersion, false};
  for (const OrtNode* node : nodes) {
    bool claimed = false;
    RETURN_IF_FAILED(claims(settings, node, &claimed));
    if (claimed) RETURN_IF_FAILED(ep_api->EpGraphSupportInfo_AddNodesToFuse(support, &node, 1, &options));
  }
  return nullptr;
}

OrtStatus* compile(OrtEp* self, const OrtGraph** graphs, const OrtNode** fused, std::size_t size,
                   OrtNodeComputeInfo** made, OrtNode** contexts) noexcept {
  const Settings& settings = static_cast<Provider*>(self)->settings;
  if (settings.fault == "compile") return error(kEpFail, "SimNPU: injected compiler error: no tiling fits");
  while (settings.fault == "hang") pause();
  for (std::size_t i = 0; i < size; ++i) {
    std::vector<const OrtNode*> nodes;
    RETURN_IF_FAILED(nodes_of(graphs[i], &nodes));
    if (nodes.size() != 1) return error(kInvalidGraph, "SimNPU: one node at a time was claimed");
    Program program;
    RETURN_IF_FAILED(compiled(settings, nodes[0], fused[i], &program));
    if (settings.ahead_of_time) RETURN_IF_FAILED(context_node(program, fused[i], &contexts[i]));
    made[i] = new Node(std::move(program), settings.fault);
  }
  return nullptr;
}

void release_nodes(OrtEp*, OrtNodeComputeInfo** nodes, std::size_t size) noexcept {
  for (std::size_t i = 0; i < size; ++i) delete static_cast<Node*>(nodes[i]);
}

OrtStatus* create_state(OrtNodeComputeInfo* self, OrtNodeComputeContext*, void** state) noexcept {
  *state = self;
  return nullptr;
}

void release_state(OrtNodeComputeInfo*, void*) noexcept {}

// Does what a broken device would: an error, the end of the process, memory that is never given back.
OrtStatus* misbehave(const std::string& fault) {
  if (unplugged()) return error(kEpFail, "SimNPU: the device is gone");
  if (fault == "run") return error(kEpFail, "SimNPU: injected device fault: no answer");
  if (fault == "segfault") std::raise(SIGSEGV);
  if (fault == "leak") std::memset(new char[kLeak], 1, kLeak);
  return nullptr;
}

OrtStatus* input(OrtKernelContext* context, std::size_t place, Tensor* tensor) {
  const OrtValue* value = nullptr;
  const void* data = nullptr;
  OrtTensorTypeAndShapeInfo* info = nullptr;
  RETURN_IF_FAILED(api->KernelContext_GetInput(context, place, &value));
  RETURN_IF_FAILED(api->GetTensorData(value, &data));
  RETURN_IF_FAILED(api->GetTensorTypeAndShape(value, &info));
  std::size_t rank = 0;
  OrtStatus* failed = api->GetDimensionsCount(info, &rank);
  tensor->data = static_cast<const float*>(data);
  tensor->shape.resize(rank);
  if (!failed) failed = api->GetDimensions(info, tensor->shape.data(), rank);
  api->ReleaseTensorTypeAndShapeInfo(info);
  return failed;
}

OrtStatus* run(OrtNodeComputeInfo* self, void*, OrtKernelContext* context) noexcept {
  const Node& node = *static_cast<Node*>(self);
  RETURN_IF_FAILED(misbehave(node.fault));
  std::vector<Tensor> in(node.program.inputs.size());
  for (std::size_t i = 0; i < in.size(); ++i) RETURN_IF_FAILED(input(context, node.program.inputs[i], &in[i]));
  std::string problem;
  const std::vector<int64_t> shape = result_shape(node.program, in, &problem);
  if (!problem.empty()) return error(kInvalidArgument, "SimNPU: " + node.program.op + " of " + problem);
  OrtValue* value = nullptr;
  void* data = nullptr;
  RETURN_IF_FAILED(api->KernelContext_GetOutput(context, 0, shape.data(), shape.size(), &value));
  RETURN_IF_FAILED(api->GetTensorMutableData(value, &data));
  compute(node.program, in, shape, static_cast<float*>(data));
  return nullptr;
}

}  // namespace

Provider::Provider(Settings told) : OrtEp{}, settings(std::move(told)) {
  version = kAbiVersion;
  GetName = name;
  GetCapability = capability;
  Compile = compile;
  ReleaseNodeComputeInfos = release_nodes;
  GetCompiledModelCompatibilityInfo = compatibility;
}

Node::Node(Program compiled, std::string injected)
    : OrtNodeComputeInfo{kAbiVersion, create_state, run, release_state},
      program(std::move(compiled)),
      fault(std::move(injected)) {
  // Of this process alone: a context compiled under the fault does not carry it to the next.
  if (fault == "half") program.half = true;
}

}  // namespace simnpu
