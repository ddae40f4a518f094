// What SimNPU is told: options of a session, and faults that the environment of the process injects.
#pragma once

#include <set>
#include <string>

#include "ort_abi.h"

namespace simnpu {

constexpr const char* kName = "SimNPUExecutionProvider";

// Set once, when the library is registered.
extern const OrtApi* api;
extern const OrtEpApi* ep_api;
extern const OrtModelEditorApi* editor;

struct Settings {
  bool half = false;         // precision=fp16
  bool static_only = false;  // static_only=1: a free dimension is refused, as most compilers do
  bool ahead_of_time = false;
  std::set<std::string> ops;  // ops=Relu,Gemm: the operators it has; all that it knows by default
  std::string fault;          // fault=create|compile|run|segfault|hang|leak|half, or none
};

// Reads them; an option that is not known is an error, as is a value that is not.
OrtStatus* read(const OrtSessionOptions*, Settings*);

// How many devices this process sees: SIMNPU_DEVICES (2 by default), none while the file SIMNPU_UNPLUGGED is there.
int devices();
bool unplugged();

// What the driver calls itself: SIMNPU_VERSION when the library was loaded, 1.0.0 by default.
const char* driver_version();

OrtStatus* error(ErrorCode, const std::string&);

}  // namespace simnpu

// Hands a failure of ONNX Runtime on to the caller.
#define RETURN_IF_FAILED(call)              \
  do {                                      \
    if (OrtStatus* failed_ = (call)) return failed_; \
  } while (0)
