"""`edgeprof predict`: the latency of a model without running it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from latency_models.estimate import Estimate

__all__ = ["predict"]

EXIT_ERROR, EXIT_SOME_FAILED = 1, 3

EPILOG = """\b
Examples:
  edgeprof predict model.onnx -p pi5-onnxruntime
  edgeprof predict model.tflite -p ./pi5-litert.predictor --level 0.8 --json -
  edgeprof predict model.onnx --board raspberrypi-5
  edgeprof predict silero_vad_16k_op15.onnx -p local-onnxruntime --shape input=1,576 --shape state=2,1,128"""


@click.command(epilog=EPILOG)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MODEL...")
@click.option("-p", "--predictor", "name", metavar="NAME|FILE", help="A predictor of `predictors list`, or its file.")
@click.option("--board", metavar="BOARD", help="No predictor: from the data sheet of a board of `sim list`.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads.  [default: the predictor's, or 1]")
@click.option("--batch", type=click.IntRange(1), help="Replace a dynamic first dimension of every input.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1,3,224,224", help="Shape of an input.")
@click.option(
    "--level",
    type=click.FloatRange(0.01, 0.999),
    default=0.9,
    show_default=True,
    help="Probability with which the truth lies in the interval.",
)
@click.option("--top", type=click.IntRange(1), default=12, show_default=True, help="Operators to print.")
@click.option("--json", "json_target", metavar="FILE", help="Write JSON to FILE; - is standard output.")
def predict(models: tuple[Path, ...], **options: Any) -> int:
    """Predict the latency of models, with an interval, a bill for each operator, and a list of what is unknown.

    Nothing is run. -p takes what was learned from a device (`edgeprof predictors train`), --board what is published of
    one, with an interval to match.
    """
    from edgeprof.cli.output import STANDARD_OUTPUT, console, require_writable, write_text
    from edgeprof.reports.estimate import render_estimate, to_document, write_documents

    if (options["name"] is None) == (options["board"] is None):
        raise click.UsageError("say what to predict with: either -p NAME or --board BOARD")
    if math.isnan(options["level"]):
        raise click.UsageError("--level is not a number: give one between 0 and 1, as 0.9")
    if options["json_target"] is not None:
        require_writable(options["json_target"])
    answer = _predictor(options)
    out = console(stderr=options["json_target"] == STANDARD_OUTPUT)
    documents = []
    for path in models:
        estimate = _estimate(answer, path, options)
        if estimate is None:
            continue
        documents.append(to_document(path.name, estimate, str(path)))
        out.print(render_estimate(path.name, estimate, options["top"], options["name"]))
    if options["json_target"] is not None and (documents or len(models) > 1):
        write_text(options["json_target"], write_documents(documents, is_one=len(models) == 1))
    if len(documents) == len(models):
        return 0
    return EXIT_SOME_FAILED if documents else EXIT_ERROR


def _predictor(options: dict[str, Any]) -> Any:
    """What answers: a predictor of the user's, or a board's data sheet."""
    if options["board"] is not None:
        return _board_predictor(options["board"], options["threads"] or 1)
    from edgeprof.training.keeping import load_predictor

    predictor = load_predictor(options["name"])
    threads = options["threads"]
    if threads is not None and threads != predictor.target.threads:
        from edgeprof.errors import UsageError
        from edgeprof.models.groups import counted

        trained = counted(predictor.target.threads, "thread")
        device, runtime = predictor.target.device, predictor.target.runtime
        by = "" if runtime == "simulated" else f"--runtime {runtime} "
        raise UsageError(
            f"{predictor.target.name} was trained with {trained}, not with {threads}",
            f"train another: edgeprof predictors train -d {device} {by}--threads {threads} "
            f"--name {device}-{runtime}-{threads}threads",
        )
    return predictor


def _board_predictor(name: str, threads: int) -> Any:
    from edgeprof.errors import UsageError
    from latency_models.boards import UnknownBoard
    from latency_models.datasheet import BoardPredictor

    try:
        return BoardPredictor.of(name, threads=threads)
    except UnknownBoard as error:
        raise UsageError(str(error), "edgeprof sim list shows the boards that are described") from error
    except ValueError as error:
        raise UsageError(str(error), "edgeprof sim show BOARD shows what is published of it") from error


def _estimate(answer: Any, path: Path, options: dict[str, Any]) -> Estimate | None:
    """The estimate of one model; a model that cannot be read is told, and the others go on."""
    from edgeprof.cli.profile_settings import to_shapes
    from latency_models.graph import GraphError

    try:
        found: Estimate = answer.predict(
            path, level=options["level"], shapes=to_shapes(options["shapes"]), batch=options["batch"]
        )
    except GraphError as error:
        what, advice = _complaint(path, error)
        click.echo(f"edgeprof: {what}", err=True)
        click.echo(f"  what to do: {advice}", err=True)
        return None
    except OSError as error:
        click.echo(f"edgeprof: {path}: cannot be read: {error.strerror or error}", err=True)
        click.echo("  what to do: check the path", err=True)
        return None
    return found


def _complaint(path: Path, error: Exception) -> tuple[str, str]:
    """What is wrong with a model that cannot be predicted, and what to do about it."""
    from edgeprof.errors import ModelError
    from edgeprof.models import read_model
    from latency_models.graph import ShapeError
    from latency_models.making_kernels import WrongFormat

    if isinstance(error, ShapeError):
        return f"{path}: {error}", "mend --shape or --batch"
    if isinstance(error, WrongFormat):
        return f"{path}: {error}", "name the model in that format, or a predictor of a runtime that runs this one"
    try:
        read_model(path)
    except ModelError as better:  # it looks at what the file is instead
        return str(better), better.advice or "name an ONNX or TFLite file"
    return f"{path}: {error}", "name a model that the runtime takes"
