// SimNPU as an execution provider: which nodes it takes, what it compiles them to, and how they run.
#pragma once

#include <memory>

#include "kernels.h"
#include "settings.h"

namespace simnpu {

struct Provider : OrtEp {
  explicit Provider(Settings told);
  Settings settings;
};

// One node, compiled.
struct Node : OrtNodeComputeInfo {
  explicit Node(Program compiled, std::string fault);
  Program program;
  std::string fault;
};

// Whether SimNPU takes this node; false is no failure.
OrtStatus* claims(const Settings&, const OrtNode*, bool* claimed);

// The program of a node of the graph, or of one that was compiled ahead of time.
OrtStatus* compiled(const Settings&, const OrtNode* node, const OrtNode* fused, Program*);

// A node of type EPContext that holds the program, in place of the fused node.
OrtStatus* context_node(const Program&, const OrtNode* fused, OrtNode**);

}  // namespace simnpu
