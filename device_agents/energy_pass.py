"""The energy pass: the model in a loop between stretches of rest, with a power meter sampled all the while."""

from typing import Sequence

from device_agents.machine import Machine
from device_agents.measure import PassResult, Report
from device_agents.runtimes import RuntimeRefusal
from device_agents.wire import Job


def energy_pass(job: Job, model_path: str, input_paths: Sequence[str], machine: Machine, report: Report) -> PassResult:
    """Measure by the job's energy plan; the result has the fields of `EnergyPass`.

    Raises:
        RuntimeRefusal: no-meter, charging, or what the runtime cannot do.
    """
    raise RuntimeRefusal("no-meter", "this device has no power meter that can be read")
