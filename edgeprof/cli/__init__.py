"""The command line: the only place that prints or exits. Commands are imported when they are asked for.

Exit codes: 0 ok, 1 error, 2 usage, 3 finished with failures, 4 not trusted, regression found, or that could not
be ruled out.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import click

from edgeprof import __version__
from edgeprof.errors import EdgeprofError, UsageError

__all__ = ["main"]

EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
FAILED_WRITES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# What to do about an error of the operating system that no part of the program had words for.
ELSEWHERE = "EDGEPROF_HOME=FOLDER keeps what edgeprof writes in a folder of your choice"
SYSTEM_ADVICE = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EROFS: ELSEWHERE,
    errno.ENOTDIR: ELSEWHERE,
    errno.EACCES: f"mend its permissions; {ELSEWHERE}",
}
OTHER_ADVICE = "run it again with --debug after `edgeprof` to see where it happened"
# Command, where it is, and its line in the overview: importing a command to ask for its help would cost start-up time.
COMMANDS = {
    "demo": ("edgeprof.cli.demo:demo", "The whole story on this machine, in two minutes."),
    "check": ("edgeprof.cli.check:check", "Stop a release that is slower than its baseline, or over budget."),
    "devices": ("edgeprof.cli.devices:devices", "The devices edgeprof can reach."),
    "profile": ("edgeprof.cli.profile:profile", "Profile models on devices."),
    "predict": ("edgeprof.cli.predict:predict", "The latency of a model without running it, and how far to trust it."),
    "predictors": ("edgeprof.cli.predictors:predictors", "Turn a device into a predictor of latency."),
    "sim": ("edgeprof.cli.sim:sim", "Boards that can be simulated, for people who have none."),
    "campaign": ("edgeprof.cli.campaign:campaign", "Many models on many devices: interleaved, retried, resumed."),
    "search": (
        "edgeprof.cli.search:search",
        "Networks for a device: accuracy against latency, energy, memory, carbon.",
    ),
    "optimize": (
        "edgeprof.cli.optimize:optimize",
        "A faster, leaner file of a model for a device, within an accuracy budget.",
    ),
    "tune": ("edgeprof.cli.tune:tune", "How a model runs best on a device: runtime, threads, CPUs, clocks."),
    "carbon": ("edgeprof.cli.carbon:carbon", "Grams of CO2e per inference, with every input's source."),
    "runs": ("edgeprof.cli.runs:runs", "Profiles that were kept: list, show, compare, export."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


EPILOG = """\b
Examples:
  edgeprof demo
  edgeprof profile model.onnx --operators
  edgeprof devices add pi5 ssh://pi@raspberrypi.local
  edgeprof profile model.tflite -d pi5"""


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
@click.version_option(__version__, prog_name="edgeprof")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Profile model inference on edge devices, with numbers that say how far they can be trusted."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        result: Any = cli.main(arguments, prog_name="edgeprof", standalone_mode=False)
        if sys.stdout is not None:  # as it is after >&-
            sys.stdout.flush()  # whether everything fits there must be known before the exit code is decided
        sys.exit(result if isinstance(result, int) else 0)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left (`| head`); there is nothing to say to anybody
        sys.exit(EXIT_ERROR)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        cause = _cause(error)
        if "--debug" in arguments and not isinstance(cause, click.exceptions.Abort):
            raise
        sys.exit(_tell(cause))


def _cause(error: Exception) -> Exception:
    """Click takes any EOFError for the end of what the keyboard says; one of a library's would be a defect of ours."""
    cause = error.__cause__
    return cause if isinstance(error, click.exceptions.Abort) and isinstance(cause, EOFError) else error


def _tell(error: Exception) -> int:
    """Print what went wrong and what to do; the exit code."""
    if isinstance(error, click.exceptions.Abort):
        click.echo("edgeprof: interrupted", err=True)
        return EXIT_INTERRUPTED
    if isinstance(error, EdgeprofError):
        click.echo(f"edgeprof: {error}", err=True)
        if error.advice:
            click.echo(f"  what to do: {error.advice}", err=True)
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_ERROR
    if isinstance(error, OSError):
        click.echo(f"edgeprof: {_where(error)}{error.strerror or error}", err=True)
        click.echo(f"  what to do: {SYSTEM_ADVICE.get(error.errno or 0, OTHER_ADVICE)}", err=True)
        _silence_output()
        return EXIT_ERROR
    click.echo(f"edgeprof: a defect: {type(error).__name__}: {error}", err=True)
    click.echo("  what to do: run it again with --debug after `edgeprof` and report what it prints", err=True)
    return EXIT_ERROR


def _where(error: OSError) -> str:
    """The file that an error is about. Those that we write have names in their errors; standard output has none."""
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: "
    return "standard output: " if error.errno in FAILED_WRITES else ""


def _silence_output() -> None:
    """Drop what could not be printed: it would fail once more, loudly, when the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
