"""`make lab N=8`: a campaign over a fleet in which two devices fail on purpose, mended and resumed, and all counted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import msgspec

from edgeprof.deadlines import Deadlines
from edgeprof.fleet import Fleet as FleetFile
from edgeprof.store import DONE, FAILED, CampaignJob, Store
from tests.integration.command_line import EDGEPROF
from tests.lab.device import FleetDevice
from tests.lab.fleet import Fleet
from tests.lab.scene import MODELS, left_on

NAMES = ("alexa.tflite", "hey_jarvis.tflite", "hey_mycroft.tflite")
RUNTIMES = ("litert", "tflite")
N_DOOMED = 2
EXIT_OK, EXIT_SOME_FAILED = 0, 3
# Short for a person who watches, long for many emulated devices on few processors.
DEADLINES = Deadlines(connect_s=15, silence_s=10, heartbeat_s=2)
LOST_S = 10.0
LOOK_S = 0.1
# Nothing takes this long unless it hangs.
PATIENCE_S = 1200.0


def demonstrate(made: Fleet, models: Sequence[str] = NAMES) -> int:
    """Run it, and say how long it took: 0 if everything was as it must be, else 1."""
    began_s = time.monotonic()
    plan = made.folder / "plan.toml"
    _write_files(made, models, plan)
    wanted = [*product((device.name for device in made), models, RUNTIMES)]
    partitioned, unpowered = ([*made][-N_DOOMED:] * N_DOOMED)[:N_DOOMED]
    _say(f"{len(models)} models x {len(made)} devices x {len(RUNTIMES)} runtimes; every latency is EMULATED")
    _say(f"on purpose, once they have done a job: the link of {partitioned.name} is cut, for ever")
    _say(f"on purpose, once they have done a job: the power of {unpowered.name} is cut, for ever")
    with ExitStack() as stack:
        controller = _start(made, stack, "campaign", "run", str(plan))
        for device in dict.fromkeys((partitioned, unpowered)):
            _await_first_job(made, device, controller)
        partitioned.wire.cut()
        unpowered.power_cut()
        wrong = _end(controller, EXIT_SOME_FAILED)
        n_before = sum(job.state == DONE for job in _jobs(made))
        _say(f"{n_before} of {len(wanted)} jobs are done; now {partitioned.name} and {unpowered.name} are mended")
        partitioned.wire.heal()
        unpowered.power_on(keep_disk=True)
        wrong += _end(_start(made, stack, "campaign", "resume"), EXIT_OK)
    wrong += _count(made, wanted, n_before)
    wrong += [left for device in made for left in left_on(device)]
    for line in wrong:
        _say(f"WRONG: {line}")
    _say(f"{'not as it must be' if wrong else 'all is as it must be'}; {time.monotonic() - began_s:.0f} s")
    return 1 if wrong else 0


def _write_files(made: Fleet, names: Sequence[str], plan: Path) -> None:
    made.fleet_toml.unlink()
    fleet = FleetFile.read(made.fleet_toml)
    for device in made:
        fleet = fleet.add(msgspec.structs.replace(device.device(), connect_timeout_s=None, deadlines=DEADLINES))
    models = ", ".join(f'"{next(MODELS.rglob(name))}"' for name in names)
    devices = ", ".join(f'"{device.name}"' for device in made)
    runtimes = ", ".join(f'"{name}"' for name in RUNTIMES)
    # A latency under qemu says nothing, however often it is taken.
    plan.write_text(
        f'name = "lab"\nmodels = [{models}]\ndevices = [{devices}]\nlost_s = {LOST_S}\n'
        f"[matrix]\nruntime = [{runtimes}]\n"
        "[defaults]\nrounds = 1\nmin_runs = 2\nmin_s = 0.0\ngate_timeout_s = 0.0\n"
    )


def _start(made: Fleet, stack: ExitStack, *arguments: str) -> subprocess.Popen[bytes]:
    """A command of edgeprof in the controller, which prints where we print."""
    _say(f"$ edgeprof {' '.join(arguments)}")
    environment = {**os.environ, **made.environment, "COLUMNS": "150"}
    process = stack.enter_context(subprocess.Popen([*made.prefix, str(EDGEPROF), *arguments], env=environment))
    stack.callback(process.kill)
    return process


def _end(controller: subprocess.Popen[bytes], exit_code: int) -> list[str]:
    found = controller.wait(timeout=PATIENCE_S)
    _say(f"exit code {found}")
    return [] if found == exit_code else [f"exit code {found} and not {exit_code}"]


def _await_first_job(made: Fleet, device: FleetDevice, controller: subprocess.Popen[bytes]) -> None:
    while controller.poll() is None:
        done = [job for job in _jobs(made) if job.device == device.name and job.state in (DONE, FAILED)]
        if done:
            return
        time.sleep(LOOK_S)


def _jobs(made: Fleet) -> Sequence[CampaignJob]:
    path = made.fleet_toml.parent / "store.sqlite"
    if not path.exists():
        return ()
    with Store(path) as store:
        campaigns = store.campaigns()
        return store.jobs(campaigns[0].id) if campaigns else ()


def _count(made: Fleet, wanted: Sequence[tuple[str, str, str]], n_before: int) -> list[str]:
    """Print what the store has, and find what it should not have or lacks."""
    jobs = _jobs(made)
    with Store(made.fleet_toml.parent / "store.sqlite") as store:
        runs = [store.get(row.id) for row in store.list()]
    found = Counter((run.device, run.profile.job.model.name, run.profile.job.runtime) for run in runs)
    n_done = sum(job.state == DONE for job in jobs)
    _say(f"{n_done} of {len(wanted)} jobs done, {n_before} of them before the resume; {len(runs)} runs in the store")
    for device in made:
        own = [job for job in jobs if job.device == device.name]
        again = sum(job.attempt > 1 for job in own)
        _say(f"  {device.name}: {sum(job.state == DONE for job in own)} done, {again} taken up again")
    wrong = [f"{' '.join(key)} is in the store {found[key]} times" for key in wanted if found[key] != 1]
    wrong += [f"{' '.join(key)} was never asked for" for key in found if key not in wanted]
    wrong += [f"run {run.id} is not labelled emulated" for run in runs if run.profile.origin != "emulated"]
    if n_done != len(wanted) or not n_before < len(wanted):
        wrong.append(f"{n_done} jobs are done, {n_before} before the resume, of {len(wanted)}")
    return wrong


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
