// Reads what SimNPU is told.
#include "settings.h"

#include <cstdlib>
#include <sstream>

#include <sys/stat.h>

#include "kernels.h"

namespace simnpu {

const OrtApi* api = nullptr;
const OrtEpApi* ep_api = nullptr;
const OrtModelEditorApi* editor = nullptr;

namespace {

// ONNX Runtime hands options of a provider on under its name in lower case.
const std::string kPrefix = "ep.simnpuexecutionprovider.";
const std::set<std::string> kFaults = {"none", "create", "compile", "run", "segfault", "hang", "leak", "half"};

OrtStatus* refused(const std::string& key, const std::string& value) {
  return error(kInvalidArgument, "SimNPU: option " + key + " does not take '" + value + "'");
}

OrtStatus* take(const std::string& key, const std::string& value, Settings* settings) {
  if (key == "precision") {
    if (value != "fp32" && value != "fp16") return refused(key, value);
    settings->half = value == "fp16";
  } else if (key == "static_only") {
    if (value != "0" && value != "1") return refused(key, value);
    settings->static_only = value == "1";
  } else if (key == "ops") {
    std::istringstream listed(value);
    for (std::string op; std::getline(listed, op, ',');) {
      if (!known(op)) return refused(key, op);
      settings->ops.insert(op);
    }
  } else if (key == "fault") {
    if (!kFaults.count(value)) return refused(key, value);
    settings->fault = value;
  } else {
    return error(kInvalidArgument, "SimNPU: Unknown provider option '" + key + "'");
  }
  return nullptr;
}

OrtStatus* take_all(const OrtKeyValuePairs* pairs, Settings* settings) {
  const char* const* keys = nullptr;
  const char* const* values = nullptr;
  std::size_t size = 0;
  api->GetKeyValuePairs(pairs, &keys, &values, &size);
  for (std::size_t i = 0; i < size; ++i) {
    const std::string key = keys[i];
    if (key == "ep.context_enable") settings->ahead_of_time = std::string(values[i]) == "1";
    if (key.rfind(kPrefix, 0) == 0) RETURN_IF_FAILED(take(key.substr(kPrefix.size()), values[i], settings));
  }
  return nullptr;
}

}  // namespace

OrtStatus* error(ErrorCode code, const std::string& message) { return api->CreateStatus(code, message.c_str()); }

OrtStatus* read(const OrtSessionOptions* options, Settings* settings) {
  const char* injected = std::getenv("SIMNPU_FAULT");
  if (injected && *injected) RETURN_IF_FAILED(take("fault", injected, settings));
  OrtKeyValuePairs* pairs = nullptr;
  RETURN_IF_FAILED(api->GetSessionOptionsConfigEntries(options, &pairs));
  OrtStatus* failed = take_all(pairs, settings);
  api->ReleaseKeyValuePairs(pairs);
  return failed;
}

bool unplugged() {
  const char* path = std::getenv("SIMNPU_UNPLUGGED");
  struct stat found;
  return path && *path && stat(path, &found) == 0;
}

int devices() {
  if (unplugged()) return 0;
  const char* wanted = std::getenv("SIMNPU_DEVICES");
  return wanted && *wanted ? std::atoi(wanted) : 2;
}

const char* driver_version() {
  // ONNX Runtime keeps the pointer; the environment may change.
  static const std::string said = [] {
    const char* wanted = std::getenv("SIMNPU_VERSION");
    return std::string(wanted && *wanted ? wanted : "1.0.0");
  }();
  return said.c_str();
}

}  // namespace simnpu
