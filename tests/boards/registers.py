"""A program for the board: play a power pattern into the ina226's registers, and write down what was shown and when.

Standard library alone. Without a load it is a cycle of levels, independent of what the board does; with `--load` it is
so many watts at rest and so many more for every CPU that works. The log has a line for each write: CLOCK_MONOTONIC
seconds, and the watts that the register then says.
"""

import argparse
import ctypes
import fcntl
import os
import struct
import sys
import time

# linux/i2c-dev.h and linux/i2c.h: access although a driver is bound, and one SMBus transfer.
I2C_SLAVE_FORCE, I2C_SMBUS = 0x0706, 0x0720
I2C_SMBUS_WRITE, I2C_SMBUS_WORD_DATA = 0, 3
# union i2c_smbus_data
DATA_BYTES = 34
CHIP = 0x40
# Data sheet of the INA226 (SBOS547): its registers are big-endian words; 2.5 uV of shunt voltage and 1.25 mV of bus
# voltage a step. With the driver's calibration a step of current is 2.5 uV over the shunt of 10 mOhm, one of power 25
# times that, in W.
SHUNT_VOLTAGE, BUS_VOLTAGE, POWER, CURRENT = 0x01, 0x02, 0x03, 0x04
POWER_STEP_W, CURRENT_STEP_A, VOLTAGE_STEP_V, SHUNT_STEP_V = 6.25e-3, 0.25e-3, 1.25e-3, 2.5e-6
SUPPLY_V, SHUNT_OHM = 5.0, 0.01
LOOK_S = 0.05
BATTERY_CURRENT, BATTERY_V = "/sys/module/test_power/parameters/battery_current", 4.0


class Chip:
    """The registers behind the driver's back."""

    def __init__(self, bus: int) -> None:
        self._fd = os.open(f"/dev/i2c-{bus}", os.O_RDWR)
        fcntl.ioctl(self._fd, I2C_SLAVE_FORCE, CHIP)

    def show(self, watts: float) -> float:
        """Let it show so much power; what that is in whole steps."""
        steps = round(watts / POWER_STEP_W)
        amperes = steps * POWER_STEP_W / SUPPLY_V
        self._write(BUS_VOLTAGE, round(SUPPLY_V / VOLTAGE_STEP_V))
        self._write(SHUNT_VOLTAGE, round(amperes * SHUNT_OHM / SHUNT_STEP_V))
        self._write(CURRENT, round(amperes / CURRENT_STEP_A))
        self._write(POWER, steps)
        return steps * POWER_STEP_W

    def _write(self, register: int, value: int) -> None:
        data = ctypes.create_string_buffer(struct.pack(">H", value), DATA_BYTES)
        request = struct.pack("@BBIP", I2C_SMBUS_WRITE, register, I2C_SMBUS_WORD_DATA, ctypes.addressof(data))
        fcntl.ioctl(self._fd, I2C_SMBUS, request)


class Battery:
    """The kernel's test battery at 4 V, as drivers have it that report mA for uA and outflow as negative."""

    def show(self, watts: float) -> float:
        milliamperes = round(watts / BATTERY_V * 1e3)
        with open(BATTERY_CURRENT, "w") as file:
            file.write(str(-milliamperes))
        return milliamperes * 1e-3 * BATTERY_V


def busy_s() -> float:
    """CPU time that all CPUs spent on work since boot."""
    with open("/proc/stat") as file:
        user, nice, system = file.readline().split()[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bus", type=int)
    parser.add_argument("--levels", type=float, nargs="+", metavar="W", help="one after the other, again and again")
    parser.add_argument("--hold", type=float, default=1.0, metavar="S", help="how long each level stays")
    parser.add_argument("--load", type=float, nargs=2, metavar="W", help="at rest, and more for each busy CPU")
    parser.add_argument("--battery", action="store_true", help="show it as the battery's current instead")
    asked = parser.parse_args()
    chip = Battery() if asked.battery else Chip(asked.bus)

    def show(watts: float) -> None:
        shown = chip.show(watts)
        sys.stdout.write(f"{time.monotonic():.6f} {shown:.6f}\n")
        sys.stdout.flush()

    while asked.levels:
        for level in asked.levels:
            show(level)
            time.sleep(asked.hold)
    rest_w, cpu_w = asked.load
    at_s, before_s = time.monotonic(), busy_s()
    while True:
        time.sleep(LOOK_S)
        now_s, work_s = time.monotonic(), busy_s()
        show(rest_w + cpu_w * (work_s - before_s) / (now_s - at_s))
        at_s, before_s = now_s, work_s


if __name__ == "__main__":
    main()
