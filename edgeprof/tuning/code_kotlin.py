"""A Kotlin class for Android that runs a model as a recipe says; nobody compiles it here."""

from __future__ import annotations

from string import Template

from edgeprof.tuning.literals import is_one_to_one, kotlin_literal, worker_cpus
from edgeprof.tuning.recipe import RecipeSettings

__all__ = ["source"]

CPU = "CPUExecutionProvider"
PROVIDERS = {"NnapiExecutionProvider": "addNnapi()", "XnnpackExecutionProvider": "addXnnpack(emptyMap())"}

ONNX = """$comments
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession

/** The model as `edgeprof tune` found best. [path] is that of the file on the phone. */
class TunedModel(path: String) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment()
    private val session: OrtSession

    init {
        val options = OrtSession.SessionOptions()
        options.setIntraOpNumThreads($threads)
        options.setInterOpNumThreads(1)
$options        session = environment.createSession(path, options)
    }

    fun run(inputs: Map<String, OnnxTensor>): OrtSession.Result = session.run(inputs)

    override fun close() = session.close()

    companion object {
        const val FILE = $model
    }
}
"""

TFLITE = """$comments
import java.io.File
import org.tensorflow.lite.Interpreter

/** The model as `edgeprof tune` found best. [file] is on the phone. */
class TunedModel(file: File) : AutoCloseable {
    private val interpreter: Interpreter

    init {
        val options = Interpreter.Options()
        options.setNumThreads($threads)
        options.setUseXNNPACK($xnnpack)
$options        interpreter = Interpreter(file, options)
    }

    fun run(inputs: Array<Any>, outputs: Map<Int, Any>) = interpreter.runForMultipleInputsOutputs(inputs, outputs)

    override fun close() = interpreter.close()

    companion object {
        const val FILE = $model
    }
}
"""


def source(settings: RecipeSettings, runtime: str, model: str, comments: str) -> str:
    """The whole file; `comments` come first."""
    is_onnx = runtime == "onnxruntime"
    lines = [*(_onnx(settings) if is_onnx else _tflite(settings)), *_pinning(settings, is_onnx=is_onnx)]
    values = {
        "comments": comments,
        "model": kotlin_literal(model),
        "threads": str(settings.threads),
        "xnnpack": "true" if settings.xnnpack else "false",
        "options": "".join(f"        {line}\n" for line in lines),
    }
    return Template(ONNX if is_onnx else TFLITE).substitute(values)


def _onnx(settings: RecipeSettings) -> list[str]:
    lines = []
    if settings.spinning is not None:
        lines.append(f'options.addConfigEntry("session.intra_op.allow_spinning", "{int(settings.spinning)}")')
    workers = worker_cpus(settings)
    if workers is not None:
        lines.append("// Of all threads but the calling one: CPUs counted from 1, threads parted by semicolons.")
        lines.append(f'options.addConfigEntry("session.intra_op_thread_affinities", "{workers}")')
    if settings.provider not in (None, CPU):
        provider = settings.provider or ""
        missing = f"TODO({kotlin_literal('add the execution provider ' + provider)})"
        lines.append(f"options.{PROVIDERS[provider]}" if provider in PROVIDERS else missing)
    return lines


def _tflite(settings: RecipeSettings) -> list[str]:
    if not settings.delegate:
        return []
    return [f"TODO({kotlin_literal('add the delegate of the library ' + settings.delegate)})"]


def _pinning(settings: RecipeSettings, *, is_onnx: bool) -> list[str]:
    """Android has no call for it in Kotlin: it takes a few lines of native code."""
    if not settings.affinity:
        return []
    cpus = ", ".join(map(str, settings.affinity))
    lines = [
        "// Kotlin cannot pin threads. Call sched_setaffinity of run_model.cpp (Pin) by JNI, on the thread that makes",
        f"// this object and runs the model, with the CPUs {cpus}: before what follows here,",
    ]
    if is_onnx and is_one_to_one(settings):
        return [*lines, f"// and after it, on the thread that runs the model, with CPU {settings.affinity[0]} alone."]
    return [*lines, "// for the threads that start there stay where this one is."]
