"""What generated programs say: text from users as literals of a language, and the recipe in lines of comments."""

from __future__ import annotations

from collections.abc import Iterator

from edgeprof.tuning.recipe import Cap, Recipe, RecipeSettings

__all__ = [
    "about",
    "cap_commands",
    "cpp_literal",
    "is_one_to_one",
    "kotlin_literal",
    "python_literal",
    "quoted",
    "runtime_to_use",
    "worker_cpus",
]

CPUFREQ = "/sys/devices/system/cpu/cpufreq"
# A simulated board has no runtime: code is for the one that usually takes such a file.
USUAL = {"onnx": "onnxruntime", "tflite": "litert"}


def python_literal(text: str) -> str:
    return ascii(text)


def cpp_literal(text: str) -> str:
    """UTF-8; octal escapes end after three digits, and an escaped question mark cannot be part of a trigraph."""
    return '"' + "".join(_cpp_byte(byte) for byte in text.encode("utf-8", "surrogatepass")) + '"'


def _cpp_byte(byte: int) -> str:
    character = chr(byte)
    if character in '"\\?':
        return "\\" + character
    return character if 32 <= byte < 127 else f"\\{byte:03o}"


def kotlin_literal(text: str) -> str:
    """UTF-16 units as escapes wherever it is not plain ASCII; a dollar sign would begin a template."""
    units = text.encode("utf-16-be", "surrogatepass")
    return '"' + "".join(_kotlin_unit(int.from_bytes(units[k : k + 2])) for k in range(0, len(units), 2)) + '"'


def _kotlin_unit(unit: int) -> str:
    character = chr(unit)
    if character in '"\\$':
        return "\\" + character
    return character if 32 <= unit < 127 else f"\\u{unit:04x}"


def quoted(text: str) -> str:
    """A name in a comment: on one line, and with a quote behind a backslash, which would join it to the next."""
    return "'" + "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text) + "'"


def runtime_to_use(recipe: Recipe) -> str:
    """The runtime that the code is for."""
    runtime = recipe.best.settings.runtime
    return USUAL[recipe.model.format] if runtime == "simulated" else runtime


def is_one_to_one(settings: RecipeSettings) -> bool:
    """Whether each thread has a CPU of its own, the calling one the first."""
    return 1 < settings.threads == len(settings.affinity)


def worker_cpus(settings: RecipeSettings) -> str | None:
    """ONNX Runtime's text for all threads but the calling one, CPUs counted from 1; None where nothing is pinned."""
    if not settings.affinity or settings.threads == 1:
        return None
    if is_one_to_one(settings):
        return ";".join(str(cpu + 1) for cpu in settings.affinity[1:])
    return ";".join([",".join(str(cpu + 1) for cpu in settings.affinity)] * (settings.threads - 1))


def about(recipe: Recipe) -> Iterator[str]:
    """Whose code this is, what was measured, and what it does not do itself."""
    best, model, device = recipe.best, recipe.model, recipe.device
    yield f"Runs {quoted(model.name)} (sha256 {model.digest}) as was found best"
    yield f"for {recipe.objective} on {quoted(device.name)} by edgeprof {quoted(recipe.edgeprof_version)}."
    if best.measured.latency_s is not None:
        found = best.measured.latency_s
        yield _measured("latency", found.value, found.low, found.high, 1e3, "ms", best.measured.origin)
    if best.measured.energy_j is not None:
        found = best.measured.energy_j
        yield _measured("energy above rest", found.value, found.low, found.high, 1e3, "mJ", best.measured.origin)
    if best.settings.runtime == "simulated":
        yield "SIMULATED: these settings were found on a simulated board. Measure before you rely on them."
    elif best.settings.runtime_version is not None:
        yield f"Found with {best.settings.runtime} {quoted(best.settings.runtime_version)}; another may differ."
    if best.settings.runtime == "litert":
        yield "It was measured by LiteRT's compiled-model interface; this uses the interpreter, with the same kernels."
    yield from cap_commands(best.settings.clock_caps)


def _measured(what: str, value: float, low: float, high: float, scale: float, unit: str, origin: str) -> str:
    bounds = f"{low * scale:.4g} to {high * scale:.4g}"
    return f"Per inference: {what} {value * scale:.4g} {unit} ({bounds}), {quoted(origin)}."


def cap_commands(caps: tuple[Cap, ...]) -> Iterator[str]:
    """The shell commands of caps, which no program without root may set, and what has to be restored after it."""
    if not caps:
        return
    yield "The clocks were capped, which this program does not do: it needs root. Before it runs, as root:"
    for cap in caps:
        path = f"{CPUFREQ}/{cap.policy}/scaling_max_freq"
        was = f" (it was {_khz(cap.before_hz)} then)" if cap.before_hz is not None else ""
        yield f"  cat {path}   # note it{was}"
        yield f"  echo {_khz(cap.max_hz)} > {path}"
    yield "and when it has ended, restore what was noted:"
    for cap in caps:
        noted = str(_khz(cap.before_hz)) if cap.before_hz is not None else "NOTED"
        yield f"  echo {noted} > {CPUFREQ}/{cap.policy}/scaling_max_freq"


def _khz(hertz: float) -> int:
    return round(hertz / 1000)
