"""A simulated board's power sensor: what it shows of the power that the board takes, as the files of a hwmon chip."""

import random
from typing import Dict

from device_agents.wire import Sensor

FOLDER = "/sys/class/hwmon/hwmon0"


class SimulatedSensor:
    """Every value is the mean power since the last one, with the sensor's noise, drift and steps.

    Its noise is its own and does not depend on what runs; so is the phase of its clock.
    """

    def __init__(self, sensor: Sensor, seed: str, rest_w: float) -> None:
        self._sensor = sensor
        self._random = random.Random(seed)
        self._period_s = 1 / sensor.rate_hz
        self._since_s = self._period_s * self._random.random()
        self._energy_j = rest_w * self._since_s
        self._age_s = 0.0
        self._shown_w = 0.0
        self._show(rest_w)

    @property
    def until_update_s(self) -> float:
        return max(0.0, self._period_s - self._since_s)

    def take(self, seconds: float, power_w: float) -> None:
        """The board takes so much for so long; no longer than until the next value."""
        self._energy_j += seconds * power_w
        self._since_s += seconds
        self._age_s += seconds

    def update(self) -> None:
        """Show the mean since the last time."""
        self._show(self._energy_j / self._since_s if self._since_s > 0 else self._shown_w)
        self._energy_j = self._since_s = 0.0

    def _show(self, power_w: float) -> None:
        noisy_w = power_w + self._random.gauss(0.0, self._sensor.noise_w) + self._sensor.drift_w_per_s * self._age_s
        step_w = self._sensor.step_w
        self._shown_w = round(noisy_w / step_w) * step_w if step_w > 0 else noisy_w

    def files(self) -> Dict[str, str]:
        """Those that a chip of the kernel's hwmon class would have."""
        return {
            f"{FOLDER}/name": "simulated\n",
            f"{FOLDER}/power1_input": self.power1_input(),
            f"{FOLDER}/power1_label": f"board={self._sensor.boundary}\n",
            f"{FOLDER}/power1_resolution": f"{round(self._sensor.step_w * 1e6)}\n",
            f"{FOLDER}/update_interval": f"{round(self._period_s * 1000)}\n",
        }

    def power1_input(self) -> str:
        """The power shown now, in uW."""
        return f"{round(self._shown_w * 1e6)}\n"
