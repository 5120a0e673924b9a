// The door: RegisterCustomOps makes every operator of the table known to a session.
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/isa.h"
#include "base/session_threads.h"
#include "ops/operators.h"

namespace fourbit {
namespace {

// One definition with concrete types, as ONNX Runtime sees it. Must outlive every session.
struct Registration : ort::CustomOp {
  const Definition* definition;
  std::vector<ort::ElementType> inputs, outputs;
  int64_t threads;  // of its sessions
};

struct Kernel {
  const ort::Api* api;
  std::string name;  // for messages
  std::unique_ptr<Operator> op;
  int64_t threads;
};

const Registration& self(const ort::CustomOp* op) { return *static_cast<const Registration*>(op); }

// Runs `work`; what it throws becomes a status that says which operator it was.
template <typename Work>
OrtStatus* guarded(const ort::Api* api, const std::string& name, const Work& work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const std::bad_alloc&) {
    return ort::call<ort::CreateStatus>(api, ort::kFail, "ai.fourbit: out of memory");
  } catch (const std::exception& error) {
    try {
      return ort::call<ort::CreateStatus>(api, ort::kInvalidArgument, (name + ": " + error.what()).c_str());
    } catch (...) {
      return ort::call<ort::CreateStatus>(api, ort::kFail, "ai.fourbit: out of memory");
    }
  } catch (...) {
    return ort::call<ort::CreateStatus>(api, ort::kFail, "ai.fourbit: unknown error");
  }
}

OrtStatus* create(const ort::CustomOp* op, const ort::Api* api, const OrtKernelInfo* info, void** kernel) {
  const Definition& definition = *self(op).definition;
  return guarded(api, std::string("ai.fourbit.") + definition.name, [&] {
    const Attributes attributes(api, info);
    const std::string node = attributes.node_name();
    const std::string name = std::string("ai.fourbit.") + definition.name + (node.empty() ? "" : " '" + node + "'");
    *kernel = new Kernel{api, name, definition.make(attributes), self(op).threads};
  });
}

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  const Kernel& k = *static_cast<const Kernel*>(kernel);
  return guarded(k.api, k.name, [&] { k.op->compute(Context(k.api, context, k.threads)); });
}

ort::ElementType element_type(Type type) {
  switch (type) {
    case Type::float32: return ort::kFloat;
    case Type::uint8: return ort::kUint8;
    case Type::int32: return ort::kInt32;
    case Type::int64: return ort::kInt64;
    case Type::uint4: return ort::kUint4;
    default: return ort::kInt4;
  }
}

std::unique_ptr<Registration> registration(const Definition& definition) {
  auto r = std::make_unique<Registration>();
  r->definition = &definition;
  r->version = ort::kApiVersion;
  r->create_kernel = nullptr;
  r->get_name = [](const ort::CustomOp* op) { return self(op).definition->name; };
  r->get_provider = [](const ort::CustomOp*) -> const char* { return nullptr; };  // CPU
  r->get_input_type = [](const ort::CustomOp* op, size_t i) { return self(op).inputs[i]; };
  r->get_input_count = [](const ort::CustomOp* op) { return self(op).inputs.size(); };
  r->get_output_type = [](const ort::CustomOp* op, size_t i) { return self(op).outputs[i]; };
  r->get_output_count = [](const ort::CustomOp* op) { return self(op).outputs.size(); };
  r->compute = nullptr;
  r->destroy_kernel = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  r->get_input_presence = [](const ort::CustomOp*, size_t) { return ort::kRequired; };
  // An output that nobody wants arrives as an empty name.
  r->get_output_presence = [](const ort::CustomOp*, size_t) { return ort::kOptional; };
  r->get_input_memory = [](const ort::CustomOp*, size_t) { return ort::kDefaultMemory; };
  r->variadic_input_min = r->variadic_output_min = [](const ort::CustomOp*) { return 0; };
  r->variadic_input_same = r->variadic_output_same = [](const ort::CustomOp*) { return 0; };
  r->create_kernel_v2 = create;
  r->compute_v2 = compute;
  r->infer_shapes = nullptr;
  r->get_start_version = [](const ort::CustomOp*) { return 1; };
  r->get_end_version = [](const ort::CustomOp*) { return 1; };
  r->get_may_inplace = r->get_alias_map = [](int**, int**) { return size_t{0}; };
  r->release_may_inplace = r->release_alias_map = [](int*, int*) {};
  for (const Type type : definition.outputs) r->outputs.push_back(element_type(type));
  return r;
}

// Every definition, once for each way to read `codes` as int4 or uint4.
std::vector<std::unique_ptr<Registration>> all_registrations(int64_t threads) {
  std::vector<std::unique_ptr<Registration>> all;
  for (const Definition& definition : definitions()) {
    size_t choices = 1;
    for (const Type type : definition.inputs) choices *= type == Type::codes ? 2 : 1;
    for (size_t choice = 0; choice < choices; ++choice) {
      auto r = registration(definition);
      r->threads = threads;
      size_t bits = choice;
      for (const Type type : definition.inputs) {
        if (type == Type::codes) {
          r->inputs.push_back(bits % 2 == 0 ? ort::kInt4 : ort::kUint4);
          bits /= 2;
        } else {
          r->inputs.push_back(element_type(type));
        }
      }
      all.push_back(std::move(r));
    }
  }
  return all;
}

// The domain for sessions of so many threads, made when it is first wanted and kept: sessions may outlive what registered
// it. nullptr and a status if that fails.
OrtCustomOpDomain* domain_for(int64_t threads, const ort::Api* api, OrtStatus** status) {
  static std::mutex mutex;
  static auto* const domains = new std::map<int64_t, OrtCustomOpDomain*>;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = domains->find(threads);
  if (found != domains->end()) return found->second;
  auto* const registrations = new std::vector<std::unique_ptr<Registration>>(all_registrations(threads));
  OrtCustomOpDomain* domain = nullptr;
  *status = ort::call<ort::CreateCustomOpDomain>(api, "ai.fourbit", &domain);
  for (const auto& r : *registrations) {
    if (*status != nullptr) break;
    const ort::CustomOp* op = r.get();
    *status = ort::call<ort::CustomOpDomainAdd>(api, domain, op);
  }
  if (*status == nullptr) return (*domains)[threads] = domain;
  if (domain != nullptr) ort::call<ort::ReleaseCustomOpDomain>(api, domain);
  return nullptr;
}

}  // namespace

OrtStatus* register_operators(OrtSessionOptions* options, const ort::ApiBase* base) {
  const ort::Api* api = base->get_api(ort::kApiVersion);
  if (api == nullptr) return nullptr;  // older than 1.19: it has already said so, and runs the bodies
  OrtStatus* status = nullptr;
  OrtStatus* thrown = guarded(api, "ai.fourbit", [&] {
    const std::string refused = isa_from_environment();
    if (!refused.empty()) throw Refused(refused);
    OrtCustomOpDomain* const domain = domain_for(session_threads(), api, &status);
    if (domain != nullptr) status = ort::call<ort::AddCustomOpDomain>(api, options, domain);
  });
  return thrown != nullptr ? thrown : status;
}

}  // namespace fourbit

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const fourbit::ort::ApiBase* base) {
  return fourbit::register_operators(options, base);
}
