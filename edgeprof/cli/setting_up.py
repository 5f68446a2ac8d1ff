"""`edgeprof devices setup` and `clean`: runtimes onto a device, and everything off it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgeprof.errors import EdgeprofError
    from edgeprof.setting_up import Setting, Step

FAILED, SOME_FAILED = 1, 3


@click.command(
    epilog="""\b
Examples:
  edgeprof devices setup pi5 --runtime onnxruntime,tflite
  edgeprof devices setup pi5 --runtime litert --dry-run
  edgeprof devices setup local --runtime tflite"""
)
@click.argument("name")
@click.option(
    "--runtime", "runtimes", multiple=True, required=True, metavar="RUNTIME[,RUNTIME]",
    help="onnxruntime, litert or tflite; several with commas between.",
)  # fmt: skip
@click.option("--python", help="The Python there to build on, if it shall be another than fleet.toml's.")
@click.option("--upgrade", is_flag=True, help="Ask for newer versions than those that were fetched before.")
@click.option("--dry-run", is_flag=True, help="Fetch to this computer, say what would be done, change nothing there.")
def setup(name: str, runtimes: tuple[str, ...], python: str | None, upgrade: bool, dry_run: bool) -> int:
    """Bring runtimes to a device that may have no internet, and try each with a tiny model.

    This computer fetches the wheels that fit the device and sends them over its link. Each runtime gets an environment
    of its own in the user's home there. What is there already is tried and left as it is. Exit code 3 if some of the
    runtimes could not be set up, 1 if none could.
    """
    import msgspec

    from edgeprof.errors import UsageError
    from edgeprof.fleet import Fleet
    from edgeprof.links import open_link
    from edgeprof.places import fleet_file, wheels_dir
    from edgeprof.setting_up import Setting

    fleet = Fleet.read(fleet_file())
    device = fleet.device(name)
    wanted = _runtimes(runtimes)
    if device.scheme == "local":
        return _set_up_here(wanted, dry_run)
    if device.board is not None:
        raise UsageError(f"{name} simulates a board: it needs no runtime", "profile on it right away")
    if device.scheme != "ssh":
        raise UsageError(f"{name} is not reached over SSH", "runtimes are brought over SSH alone")
    if python is not None:
        device = msgspec.structs.replace(device, python=python)
    with open_link(device) as link:
        setting = Setting(fleet, device, link, wheels_dir())
        click.echo(f"{name}: {setting.facts.described}")
        n_failed = sum(not _set_up(setting, runtime, upgrade, dry_run, name) for runtime in wanted)
    if n_failed:
        return FAILED if n_failed == len(wanted) else SOME_FAILED
    return 0


def _runtimes(given: tuple[str, ...]) -> list[str]:
    from edgeprof.errors import UsageError
    from edgeprof.fleet import RUNTIMES

    found = list(dict.fromkeys(part.strip() for text in given for part in text.split(",") if part.strip()))
    unknown = [runtime for runtime in found if runtime not in RUNTIMES]
    if unknown or not found:
        what = f"unknown runtime {unknown[0]!r}" if unknown else "no runtime is named"
        raise UsageError(what, f"runtimes are {', '.join(RUNTIMES)}")
    return found


def _set_up_here(wanted: list[str], dry_run: bool) -> int:
    from edgeprof.errors import UsageError
    from edgeprof.provision import set_up_tflite_here

    if wanted != ["tflite"]:
        raise UsageError(
            "on this machine only tflite needs setting up", "the others are packages: pip install 'edgeprof[litert]'"
        )
    if dry_run:
        click.echo("tflite would get an environment of its own inside this one")
    else:
        click.echo(f"tflite is ready in {set_up_tflite_here()}")
    return 0


def _set_up(setting: Setting, runtime: str, upgrade: bool, dry_run: bool, name: str) -> bool:
    """Whether it could be done; if not, why not was said."""
    from edgeprof.cli.progress import progress_bar
    from edgeprof.errors import AgentError, TransferError

    try:
        step = setting.plan(runtime, upgrade=upgrade)
        _tell(step, dry_run)
        if dry_run:
            lacking = None if step.is_there else setting.lacking_room(step)
            if lacking is not None:
                click.echo(f"edgeprof: {runtime}: would not fit: {lacking}", err=True)
            return lacking is None
        with progress_bar(f"{runtime} on {name}") as show:
            version = setting.carry_out(step, show)
    except (AgentError, TransferError) as error:
        _complain(runtime, error)
        return False
    click.echo(f"{runtime} {version} is ready: a tiny model gave the right answer")
    return True


def _tell(step: Step, dry_run: bool) -> None:
    if step.is_there:
        click.echo(f"{step.runtime} {step.version}: its environment is there already")
        return
    verb = "would take" if dry_run else "takes"
    click.echo(
        f"{step.runtime} {step.version} {verb} {len(step.wheels)} wheels, {step.size_bytes / 1e6:.1f} MB to send, "
        f"{step.unpacked_bytes / 1e6:.1f} MB there, in {step.python.removesuffix('/bin/python')}"
    )
    for wheel in step.wheels if dry_run else ():
        click.echo(f"  {wheel.size_bytes / 1e6:6.1f} MB  {wheel.path.name}")


def _complain(runtime: str, error: EdgeprofError) -> None:
    click.echo(f"edgeprof: {runtime}: {error}", err=True)
    if error.advice:
        click.echo(f"  what to do: {error.advice}", err=True)


@click.command(epilog="\b\nExamples:\n  edgeprof devices clean pi5 --dry-run\n  edgeprof devices clean pi5")
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Say what would be removed; remove nothing.")
@click.option("--force", is_flag=True, help="Also results that wait there and that nobody has fetched.")
def clean(name: str, dry_run: bool, force: bool) -> int:
    """Remove everything that edgeprof ever put on a device.

    Agents, models, wheels, environments, results. The device stays in fleet.toml, without the Pythons that are gone. A
    key that `devices add --install-key` has put there stays too: it is how you get in.
    """
    from edgeprof.errors import UsageError
    from edgeprof.fleet import Fleet
    from edgeprof.links import open_link
    from edgeprof.places import fleet_file
    from edgeprof.setting_up import clean as clean_device

    fleet = Fleet.read(fleet_file())
    device = fleet.device(name)
    if device.scheme == "sim":
        raise UsageError(f"{name} is simulated on this machine", "edgeprof devices clean local")
    if device.scheme == "adb":
        raise UsageError(
            f"the agent of {name} runs on this machine, and keeps nothing on the phone between jobs",
            "edgeprof devices clean local; what a job left that was killed: adb shell rm -r /data/local/tmp/edgeprof-*",
        )
    with open_link(device) as link:
        found = clean_device(fleet, device, link, dry_run=dry_run, force=force)
    verb = "would be removed" if dry_run else "removed"
    click.echo(f"{name}: {found.bytes / 1e6:.1f} MB in {found.path} {verb}")
    for path in found.left:
        click.echo(f"{name}: {path} belongs to another account and was left")
    return 0
