"""A C++ program that runs a model on zeros as a recipe says; nobody compiles it here."""

from __future__ import annotations

from string import Template

from edgeprof.tuning.literals import cpp_literal, is_one_to_one, worker_cpus
from edgeprof.tuning.recipe import RecipeSettings

__all__ = ["program"]

CPU, SUFFIX = "CPUExecutionProvider", "ExecutionProvider"
# What ONNX Runtime's generic AppendExecutionProvider knows by name (onnxruntime_cxx_api.h).
BY_NAME = frozenset({"QNN", "SNPE", "XNNPACK", "WEBGPU", "AZURE", "JS", "VitisAI", "CoreML"})

PIN = """
namespace {

// In this order; empty for any. As many as threads (and more than one) mean one for each.
const std::vector<int> kCpus = {$cpus};
constexpr int kThreads = $threads;

// Keeps the calling thread, and every thread that it starts from now on, on these CPUs.
void Pin(const std::vector<int>& cpus) {
  if (cpus.empty()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int cpu : cpus) CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof(set), &set) != 0) throw std::runtime_error("these CPUs cannot be had");
}
"""

ONNX = (
    """$comments
#include <onnxruntime_cxx_api.h>
#include <sched.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>
"""
    + PIN
    + """
size_t ElementBytes(ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8: return 1;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16: return 2;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32: return 4;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64: return 8;
    default: throw std::runtime_error("an input is of a type that has no zeros");
  }
}

Ort::Value Zeros(const Ort::TypeInfo& info) {
  const auto tensor = info.GetTensorTypeAndShapeInfo();
  std::vector<int64_t> shape = tensor.GetShape();
  size_t count = 1;
  for (int64_t& dim : shape) {
    if (dim < 1) dim = 1;
    count *= static_cast<size_t>(dim);
  }
  Ort::AllocatorWithDefaultOptions allocator;
  Ort::Value value = Ort::Value::CreateTensor(allocator, shape.data(), shape.size(), tensor.GetElementType());
  std::memset(value.GetTensorMutableRawData(), 0, count * ElementBytes(tensor.GetElementType()));
  return value;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string model = argc > 1 ? argv[1] : $model;
  Pin(kCpus);
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "tuned");
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(kThreads);
  options.SetInterOpNumThreads(1);
$options
  Ort::Session session(env, model.c_str(), options);
$one_to_one
  Ort::AllocatorWithDefaultOptions allocator;
  std::vector<Ort::AllocatedStringPtr> names;
  std::vector<const char*> input_names, output_names;
  std::vector<Ort::Value> inputs;
  for (size_t k = 0; k < session.GetInputCount(); ++k) {
    names.push_back(session.GetInputNameAllocated(k, allocator));
    input_names.push_back(names.back().get());
    inputs.push_back(Zeros(session.GetInputTypeInfo(k)));
  }
  for (size_t k = 0; k < session.GetOutputCount(); ++k) {
    names.push_back(session.GetOutputNameAllocated(k, allocator));
    output_names.push_back(names.back().get());
  }
  const auto outputs = session.Run(Ort::RunOptions{nullptr}, input_names.data(), inputs.data(), inputs.size(),
                                   output_names.data(), output_names.size());
  std::printf("%zu outputs\\n", outputs.size());
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\\n", error.what());
  return 1;
}
"""
)

TFLITE = (
    """$comments
// In LiteRT's own sources these headers lie below tflite/ and not below tensorflow/lite/.
#include <sched.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

$include#include "tensorflow/lite/interpreter.h"
#include "tensorflow/lite/interpreter_builder.h"
#include "tensorflow/lite/kernels/register.h"
#include "tensorflow/lite/model_builder.h"
"""
    + PIN
    + """
void Require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string path = argc > 1 ? argv[1] : $model;
  Pin(kCpus);  // the runtime's threads start below, and stay where this one is
  const auto model = tflite::FlatBufferModel::BuildFromFile(path.c_str());
  Require(model != nullptr, "the model cannot be read");
  tflite::ops::builtin::$resolver resolver;
  tflite::InterpreterBuilder builder(*model, resolver);
  Require(builder.SetNumThreads(kThreads) == kTfLiteOk, "so many threads cannot be had");
$delegate  std::unique_ptr<tflite::Interpreter> interpreter;
  Require(builder(&interpreter) == kTfLiteOk && interpreter != nullptr, "the model cannot be prepared");
  Require(interpreter->AllocateTensors() == kTfLiteOk, "its tensors cannot be had");
  for (int index : interpreter->inputs()) {
    TfLiteTensor* tensor = interpreter->tensor(index);
    std::memset(tensor->data.raw, 0, tensor->bytes);
  }
  Require(interpreter->Invoke() == kTfLiteOk, "it does not run");
  std::printf("%zu outputs\\n", interpreter->outputs().size());
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\\n", error.what());
  return 1;
}
"""
)


def program(settings: RecipeSettings, runtime: str, model: str, comments: str) -> str:
    """The whole program; `comments` come first."""
    values = {
        "comments": comments,
        "model": cpp_literal(model),
        "threads": str(settings.threads),
        "cpus": ", ".join(map(str, settings.affinity)),
    }
    if runtime == "onnxruntime":
        one_to_one = "  // The session's other threads have CPUs of their own now; this one keeps the first.\n"
        values["options"] = "\n".join(_options(settings)) or "  // Everything else is as it is by default."
        values["one_to_one"] = one_to_one + "  Pin({kCpus.front()});" if is_one_to_one(settings) else ""
        return Template(ONNX).substitute(values).replace("\n\n  Ort::Allocator", "\n  Ort::Allocator")
    values["resolver"] = "BuiltinOpResolver" if settings.xnnpack else "BuiltinOpResolverWithoutDefaultDelegates"
    values["include"] = '#include "tensorflow/lite/delegates/external/external_delegate.h"\n' * bool(settings.delegate)
    values["delegate"] = _delegate(settings.delegate) if settings.delegate else ""
    return Template(TFLITE).substitute(values)


def _options(settings: RecipeSettings) -> list[str]:
    lines = []
    if settings.spinning is not None:
        lines.append(f'  options.AddConfigEntry("session.intra_op.allow_spinning", "{int(settings.spinning)}");')
    workers = worker_cpus(settings)
    if workers is not None:
        lines.append("  // Of all threads but the calling one: CPUs counted from 1, threads parted by semicolons.")
        lines.append(f'  options.AddConfigEntry("session.intra_op_thread_affinities", "{workers}");')
    if settings.provider not in (None, CPU):
        lines.append(_provider(settings.provider or ""))
    return lines


def _provider(provider: str) -> str:
    name = provider.removesuffix(SUFFIX)
    known = {one.upper(): one for one in BY_NAME}
    if name.upper() in known:
        return f'  options.AppendExecutionProvider("{known[name.upper()]}", {{}});'
    return f'  static_assert(false, "append the provider by its own function here:" {cpp_literal(" " + provider)});'


def _delegate(path: str) -> str:
    return (
        f"  TfLiteExternalDelegateOptions options = TfLiteExternalDelegateOptionsDefault({cpp_literal(path)});\n"
        "  std::unique_ptr<TfLiteDelegate, void (*)(TfLiteDelegate*)> delegate(\n"
        "      TfLiteExternalDelegateCreate(&options), TfLiteExternalDelegateDelete);\n"
        '  Require(delegate != nullptr, "the delegate cannot be loaded");\n'
        "  builder.AddDelegate(delegate.get());\n"
    )
