// The part of ONNX Runtime's C interface that custom operators need, declared by ourselves: no wheel
// carries headers. The interface is a table of function pointers that only ever grows at the end; we
// ask for version 19 and name the entries we use by their index in it. Checked by running in 1.19.2
// and 1.32.0; static_asserts below hold the layout.
#pragma once

#include <cstddef>
#include <cstdint>

struct OrtStatus;
struct OrtValue;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtTensorTypeAndShapeInfo;
struct OrtShapeInferContext;

namespace fourbit::ort {

constexpr uint32_t kApiVersion = 19;

// ONNXTensorElementDataType; the numbers are those of ONNX.
enum ElementType : int {
  kFloat = 1,
  kUint8 = 2,
  kInt32 = 6,
  kInt64 = 7,
  kUint4 = 21,
  kInt4 = 22,
};

enum ErrorCode : int { kFail = 1, kInvalidArgument = 2 };
enum MemoryType : int { kDefaultMemory = 0 };
enum Presence : int { kRequired = 0, kOptional = 1 };

// A function of the table: at `kIndex`, with the signature of the template's argument.
template <size_t kIndex, typename Signature>
struct Entry {
  static constexpr size_t index = kIndex;
  using Function = Signature*;
};

// clang-format off
using CreateStatus            = Entry<0,   OrtStatus*(ErrorCode, const char*)>;
using GetErrorMessage         = Entry<2,   const char*(const OrtStatus*)>;
using CreateCustomOpDomain    = Entry<26,  OrtStatus*(const char*, OrtCustomOpDomain**)>;
using CustomOpDomainAdd       = Entry<27,  OrtStatus*(OrtCustomOpDomain*, const struct CustomOp*)>;
using AddCustomOpDomain       = Entry<28,  OrtStatus*(OrtSessionOptions*, OrtCustomOpDomain*)>;
using GetTensorMutableData    = Entry<51,  OrtStatus*(OrtValue*, void**)>;
using GetTensorElementType    = Entry<60,  OrtStatus*(const OrtTensorTypeAndShapeInfo*, ElementType*)>;
using GetDimensionsCount      = Entry<61,  OrtStatus*(const OrtTensorTypeAndShapeInfo*, size_t*)>;
using GetDimensions           = Entry<62,  OrtStatus*(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t)>;
using GetTensorTypeAndShape   = Entry<65,  OrtStatus*(const OrtValue*, OrtTensorTypeAndShapeInfo**)>;
using AttributeFloat          = Entry<85,  OrtStatus*(const OrtKernelInfo*, const char*, float*)>;
using AttributeInt            = Entry<86,  OrtStatus*(const OrtKernelInfo*, const char*, int64_t*)>;
using ContextGetInput         = Entry<90,  OrtStatus*(const OrtKernelContext*, size_t, const OrtValue**)>;
using ContextGetOutput        = Entry<91,  OrtStatus*(OrtKernelContext*, size_t, const int64_t*, size_t, OrtValue**)>;
using ReleaseStatus           = Entry<93,  void(OrtStatus*)>;
using ReleaseTypeAndShape     = Entry<99,  void(OrtTensorTypeAndShapeInfo*)>;
using ReleaseCustomOpDomain   = Entry<101, void(OrtCustomOpDomain*)>;
using AttributeInts           = Entry<163, OrtStatus*(const OrtKernelInfo*, const char*, int64_t*, size_t*)>;
using GetNodeName             = Entry<244, OrtStatus*(const OrtKernelInfo*, char*, size_t*)>;
using ContextParallelFor      = Entry<274, OrtStatus*(const OrtKernelContext*, void (*)(void*, size_t), size_t, size_t, void*)>;
// clang-format on

// The table itself: as many pointers as version 19 has.
struct Api {
  void (*function[280])();
};

// Calls an entry: call<CreateStatus>(api, kFail, "...").
template <typename E, typename... Arguments>
auto call(const Api* api, Arguments... arguments) {
  static_assert(E::index < sizeof(Api) / sizeof(void*), "not in version 19");
  return reinterpret_cast<typename E::Function>(api->function[E::index])(arguments...);
}

struct ApiBase {
  const Api* (*get_api)(uint32_t version);
  const char* (*get_version_string)();
};

// One operator with concrete types; several of one name are told apart by their types.
struct CustomOp {
  uint32_t version;
  void* (*create_kernel)(const CustomOp*, const Api*, const OrtKernelInfo*);  // replaced by _v2
  const char* (*get_name)(const CustomOp*);
  const char* (*get_provider)(const CustomOp*);
  ElementType (*get_input_type)(const CustomOp*, size_t);
  size_t (*get_input_count)(const CustomOp*);
  ElementType (*get_output_type)(const CustomOp*, size_t);
  size_t (*get_output_count)(const CustomOp*);
  void (*compute)(void*, OrtKernelContext*);  // replaced by _v2
  void (*destroy_kernel)(void*);
  Presence (*get_input_presence)(const CustomOp*, size_t);
  Presence (*get_output_presence)(const CustomOp*, size_t);
  MemoryType (*get_input_memory)(const CustomOp*, size_t);
  int (*variadic_input_min)(const CustomOp*);
  int (*variadic_input_same)(const CustomOp*);
  int (*variadic_output_min)(const CustomOp*);
  int (*variadic_output_same)(const CustomOp*);
  OrtStatus* (*create_kernel_v2)(const CustomOp*, const Api*, const OrtKernelInfo*, void**);
  OrtStatus* (*compute_v2)(void*, OrtKernelContext*);
  OrtStatus* (*infer_shapes)(const CustomOp*, OrtShapeInferContext*);
  int (*get_start_version)(const CustomOp*);
  int (*get_end_version)(const CustomOp*);
  size_t (*get_may_inplace)(int**, int**);
  void (*release_may_inplace)(int*, int*);
  size_t (*get_alias_map)(int**, int**);
  void (*release_alias_map)(int*, int*);
};

// Everything is a pointer but the first member, which is padded to one.
static_assert(sizeof(void*) == 8, "64-bit hosts only");
static_assert(offsetof(CustomOp, create_kernel) == 1 * 8);
static_assert(offsetof(CustomOp, compute) == 8 * 8);
static_assert(offsetof(CustomOp, get_input_presence) == 10 * 8);
static_assert(offsetof(CustomOp, get_input_memory) == 12 * 8);
static_assert(offsetof(CustomOp, create_kernel_v2) == 17 * 8);
static_assert(offsetof(CustomOp, infer_shapes) == 19 * 8);
static_assert(offsetof(CustomOp, get_end_version) == 21 * 8);
static_assert(sizeof(CustomOp) == 26 * 8);
static_assert(sizeof(Api) == 280 * 8 && sizeof(ApiBase) == 2 * 8);
static_assert(sizeof(ElementType) == 4 && sizeof(Presence) == 4, "C enumerations are ints");

}  // namespace fourbit::ort
