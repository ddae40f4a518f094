// What ONNX Runtime finds in the library: a factory that lists SimNPU's devices and makes a provider for a session.
#include <string>
#include <utility>

#include "provider.h"

namespace simnpu {
namespace {

constexpr uint32_t kVendorId = 0x51A7;  // Of no maker on PCI.
const char* const kVendor = "Headrace SimNPU";

struct Factory : OrtEpFactory {
  Factory();
  std::vector<OrtHardwareDevice*> made;  // ONNX Runtime keeps pointers to them until the factory is released.
};

const char* name(const OrtEpFactory*) noexcept { return kName; }
const char* vendor(const OrtEpFactory*) noexcept { return kVendor; }
uint32_t vendor_id(const OrtEpFactory*) noexcept { return kVendorId; }
const char* version(const OrtEpFactory*) noexcept { return driver_version(); }
bool stream_aware(const OrtEpFactory*) noexcept { return false; }

OrtStatus* no_transfer(OrtEpFactory*, OrtDataTransferImpl** made) noexcept {
  *made = nullptr;
  return nullptr;
}

OrtStatus* no_allocator(OrtEpFactory*, const OrtMemoryInfo*, const OrtKeyValuePairs*, OrtAllocator** made) noexcept {
  *made = nullptr;
  return nullptr;
}

void release_allocator(OrtEpFactory*, OrtAllocator*) noexcept {}

OrtStatus* add_device(Factory* factory, int number, OrtEpDevice** made) {
  OrtKeyValuePairs* hardware = nullptr;
  OrtKeyValuePairs* none = nullptr;
  api->CreateKeyValuePairs(&hardware);
  api->CreateKeyValuePairs(&none);
  api->AddKeyValuePair(hardware, "is_virtual", "1");
  OrtHardwareDevice* device = nullptr;
  OrtStatus* failed = ep_api->CreateHardwareDevice(kHardwareNpu, kVendorId, static_cast<uint32_t>(number), kVendor,
                                                   hardware, &device);
  if (!failed) {
    factory->made.push_back(device);
    failed = ep_api->CreateEpDevice(factory, device, none, none, made);
  }
  api->ReleaseKeyValuePairs(hardware);
  api->ReleaseKeyValuePairs(none);
  return failed;
}

OrtStatus* supported(OrtEpFactory* self, const OrtHardwareDevice* const*, std::size_t, OrtEpDevice** found,
                     std::size_t room, std::size_t* size) noexcept {
  *size = 0;
  const int wanted = devices();
  for (int number = 0; number < wanted && *size < room; ++number)
    RETURN_IF_FAILED(add_device(static_cast<Factory*>(self), number, &found[(*size)++]));
  return nullptr;
}

OrtStatus* create(OrtEpFactory*, const OrtHardwareDevice* const*, const OrtKeyValuePairs* const*, std::size_t,
                  const OrtSessionOptions* options, const OrtLogger*, OrtEp** made) noexcept {
  Settings settings;
  RETURN_IF_FAILED(read(options, &settings));
  if (unplugged()) return error(kEpFail, "SimNPU: the device is gone");
  if (settings.fault == "create") return error(kEpFail, "SimNPU: injected driver fault: the device does not open");
  *made = new Provider(std::move(settings));
  return nullptr;
}

void release(OrtEpFactory*, OrtEp* provider) noexcept { delete static_cast<Provider*>(provider); }

Factory::Factory() : OrtEpFactory{} {
  OrtEpFactory::version = kAbiVersion;
  GetName = name;
  GetVendor = vendor;
  GetVendorId = vendor_id;
  GetVersion = simnpu::version;
  GetSupportedDevices = supported;
  CreateEp = create;
  ReleaseEp = release;
  CreateAllocator = no_allocator;
  ReleaseAllocator = release_allocator;
  CreateDataTransfer = no_transfer;
  IsStreamAware = stream_aware;
}

OrtStatus* too_old(const OrtApiBase* base) {
  const std::string message = "SimNPU needs ONNX Runtime 1.24 or newer, this is " + std::string(base->GetVersionString());
  return base->GetApi(1)->CreateStatus(kNotImplemented, message.c_str());
}

}  // namespace
}  // namespace simnpu

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED OrtStatus* CreateEpFactories(const char*, const OrtApiBase* base, const OrtLogger*, OrtEpFactory** made,
                                      std::size_t room, std::size_t* size) {
  using namespace simnpu;
  api = base->GetApi(kAbiVersion);
  if (!api) return too_old(base);
  ep_api = api->GetEpApi();
  editor = api->GetModelEditorApi();
  if (room < 1) return error(kInvalidArgument, "SimNPU: there is no room for its factory");
  made[0] = new Factory();
  *size = 1;
  return nullptr;
}

EXPORTED OrtStatus* ReleaseEpFactory(OrtEpFactory* released) {
  auto* factory = static_cast<simnpu::Factory*>(released);
  for (OrtHardwareDevice* device : factory->made) simnpu::ep_api->ReleaseHardwareDevice(device);
  delete factory;
  return nullptr;
}
