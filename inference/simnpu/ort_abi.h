// The part of ONNX Runtime's plugin ABI that SimNPU uses: tables of functions at fixed places, of version 24.
//
// The tables only ever grow at their end, so a place once known stays true. `gap<N>` skips places we do not use.
#pragma once

#include <cstddef>
#include <cstdint>

constexpr uint32_t kAbiVersion = 24;

// Opaque to us: ONNX Runtime makes them and we hand them back.
struct OrtStatus;
struct OrtValue;
struct OrtTypeInfo;
struct OrtTensorTypeAndShapeInfo;
struct OrtKernelContext;
struct OrtSessionOptions;
struct OrtOpAttr;
struct OrtValueInfo;
struct OrtKeyValuePairs;
struct OrtGraph;
struct OrtNode;
struct OrtHardwareDevice;
struct OrtEpDevice;
struct OrtEpGraphSupportInfo;
struct OrtNodeComputeContext;
struct OrtLogger;
struct OrtMemoryInfo;
struct OrtAllocator;
struct OrtDataTransferImpl;
struct OrtEp;
struct OrtEpFactory;
struct OrtNodeComputeInfo;

enum ErrorCode { kInvalidArgument = 2, kNotImplemented = 9, kInvalidGraph = 10, kEpFail = 11 };
enum AttributeType { kInt = 1, kFloat = 3, kString = 5 };
constexpr int kElementFloat = 1;
constexpr int kHardwareNpu = 2;

template <std::size_t N>
using gap = void* [N];

struct NodeFusionOptions {
  uint32_t version;
  bool drop_constant_initializers;
};

struct OrtApi {
  OrtStatus* (*CreateStatus)(int code, const char* message);
  gap<50> after_0;
  OrtStatus* (*GetTensorMutableData)(OrtValue*, void**);  // 51
  gap<3> after_51;
  OrtStatus* (*CastTypeInfoToTensorInfo)(const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo**);  // 55
  gap<4> after_55;
  OrtStatus* (*GetTensorElementType)(const OrtTensorTypeAndShapeInfo*, int*);                    // 60
  OrtStatus* (*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo*, std::size_t*);              // 61
  OrtStatus* (*GetDimensions)(const OrtTensorTypeAndShapeInfo*, int64_t*, std::size_t);          // 62
  gap<2> after_62;
  OrtStatus* (*GetTensorTypeAndShape)(const OrtValue*, OrtTensorTypeAndShapeInfo**);  // 65
  gap<24> after_65;
  OrtStatus* (*KernelContext_GetInput)(const OrtKernelContext*, std::size_t, const OrtValue**);  // 90
  OrtStatus* (*KernelContext_GetOutput)(OrtKernelContext*, std::size_t, const int64_t*, std::size_t, OrtValue**);  // 91
  gap<1> after_91;
  void (*ReleaseStatus)(OrtStatus*);  // 93
  gap<5> after_93;
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo*);  // 99
  gap<111> after_99;
  OrtStatus* (*CreateOpAttr)(const char* name, const void* data, int size, int type, OrtOpAttr**);  // 211
  gap<60> after_211;
  OrtStatus* (*ReadOpAttr)(const OrtOpAttr*, int type, void*, std::size_t room, std::size_t* used);  // 272
  gap<16> after_272;
  OrtStatus* (*GetValueInfoName)(const OrtValueInfo*, const char**);             // 289
  OrtStatus* (*GetValueInfoTypeInfo)(const OrtValueInfo*, const OrtTypeInfo**);  // 290
  const struct OrtModelEditorApi* (*GetModelEditorApi)();                        // 291
  gap<3> after_291;
  void (*CreateKeyValuePairs)(OrtKeyValuePairs**);                                // 295
  void (*AddKeyValuePair)(OrtKeyValuePairs*, const char* key, const char* value);  // 296
  gap<1> after_296;
  void (*GetKeyValuePairs)(const OrtKeyValuePairs*, const char* const** keys, const char* const** values,
                           std::size_t*);  // 298
  gap<1> after_298;
  void (*ReleaseKeyValuePairs)(OrtKeyValuePairs*);  // 300
  gap<16> after_300;
  const struct OrtEpApi* (*GetEpApi)();  // 317
  gap<26> after_317;
  OrtStatus* (*Graph_GetNumNodes)(const OrtGraph*, std::size_t*);                 // 344
  OrtStatus* (*Graph_GetNodes)(const OrtGraph*, const OrtNode**, std::size_t);    // 345
  gap<3> after_345;
  OrtStatus* (*Node_GetName)(const OrtNode*, const char**);          // 349
  OrtStatus* (*Node_GetOperatorType)(const OrtNode*, const char**);  // 350
  OrtStatus* (*Node_GetDomain)(const OrtNode*, const char**);        // 351
  gap<1> after_351;
  OrtStatus* (*Node_GetNumInputs)(const OrtNode*, std::size_t*);                         // 353
  OrtStatus* (*Node_GetInputs)(const OrtNode*, const OrtValueInfo**, std::size_t);       // 354
  OrtStatus* (*Node_GetNumOutputs)(const OrtNode*, std::size_t*);                        // 355
  OrtStatus* (*Node_GetOutputs)(const OrtNode*, const OrtValueInfo**, std::size_t);      // 356
  gap<4> after_356;
  OrtStatus* (*Node_GetAttributeByName)(const OrtNode*, const char*, const OrtOpAttr**);  // 361
  gap<16> after_361;
  OrtStatus* (*GetTensorData)(const OrtValue*, const void**);                                     // 378
  OrtStatus* (*GetSessionOptionsConfigEntries)(const OrtSessionOptions*, OrtKeyValuePairs**);  // 379
};

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

struct OrtEpApi {
  OrtStatus* (*CreateEpDevice)(OrtEpFactory*, const OrtHardwareDevice*, const OrtKeyValuePairs* metadata,
                               const OrtKeyValuePairs* options, OrtEpDevice**);
  gap<1> after_0;
  OrtStatus* (*EpGraphSupportInfo_AddNodesToFuse)(OrtEpGraphSupportInfo*, const OrtNode* const*, std::size_t,
                                                  const NodeFusionOptions*);  // 2
  gap<13> after_2;
  OrtStatus* (*CreateHardwareDevice)(int type, uint32_t vendor_id, uint32_t device_id, const char* vendor,
                                     const OrtKeyValuePairs*, OrtHardwareDevice**);  // 16
  void (*ReleaseHardwareDevice)(OrtHardwareDevice*);                                 // 17
};

struct OrtModelEditorApi {
  gap<6> before_6;
  OrtStatus* (*CreateNode)(const char* op, const char* domain, const char* name, const char* const* inputs,
                           std::size_t, const char* const* outputs, std::size_t, OrtOpAttr**, std::size_t,
                           OrtNode**);  // 6
};

// What we fill in and ONNX Runtime calls. A function that is null is optional and not offered.
struct OrtNodeComputeInfo {
  uint32_t version;
  OrtStatus* (*CreateState)(OrtNodeComputeInfo*, OrtNodeComputeContext*, void** state);
  OrtStatus* (*Compute)(OrtNodeComputeInfo*, void* state, OrtKernelContext*);
  void (*ReleaseState)(OrtNodeComputeInfo*, void* state);
};

struct OrtEp {
  uint32_t version;
  const char* (*GetName)(const OrtEp*);
  OrtStatus* (*GetCapability)(OrtEp*, const OrtGraph*, OrtEpGraphSupportInfo*);
  OrtStatus* (*Compile)(OrtEp*, const OrtGraph**, const OrtNode** fused, std::size_t, OrtNodeComputeInfo**,
                        OrtNode** contexts);
  void (*ReleaseNodeComputeInfos)(OrtEp*, OrtNodeComputeInfo**, std::size_t);
  gap<7> after_4;
  const char* (*GetCompiledModelCompatibilityInfo)(OrtEp*, const OrtGraph*);  // 12
  gap<13> room;
};

struct OrtEpFactory {
  uint32_t version;
  const char* (*GetName)(const OrtEpFactory*);
  const char* (*GetVendor)(const OrtEpFactory*);
  OrtStatus* (*GetSupportedDevices)(OrtEpFactory*, const OrtHardwareDevice* const*, std::size_t, OrtEpDevice**,
                                    std::size_t room, std::size_t* found);
  OrtStatus* (*CreateEp)(OrtEpFactory*, const OrtHardwareDevice* const*, const OrtKeyValuePairs* const*, std::size_t,
                         const OrtSessionOptions*, const OrtLogger*, OrtEp**);
  void (*ReleaseEp)(OrtEpFactory*, OrtEp*);
  uint32_t (*GetVendorId)(const OrtEpFactory*);
  const char* (*GetVersion)(const OrtEpFactory*);
  gap<1> after_7;
  OrtStatus* (*CreateAllocator)(OrtEpFactory*, const OrtMemoryInfo*, const OrtKeyValuePairs*, OrtAllocator**);  // 9
  void (*ReleaseAllocator)(OrtEpFactory*, OrtAllocator*);
  OrtStatus* (*CreateDataTransfer)(OrtEpFactory*, OrtDataTransferImpl**);
  bool (*IsStreamAware)(const OrtEpFactory*);
  gap<8> room;
};
