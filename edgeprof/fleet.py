"""The devices one can reach: `Device`, and `Fleet` as read from and written to fleet.toml.

::

    [devices.pi5]
    address = "ssh://pi@raspberrypi.local"     # or local:, or sim:BOARD
    python = "python3"
    pythons = { tflite = "/home/pi/tflite/bin/python" }
    groups = ["kitchen"]
    deadlines = { connect_s = 5, silence_s = 10 }

    [devices.stand-in]
    address = "ssh://pi@127.0.0.1"
    simulate = "pi-4"                          # its agent computes what this board would take

    [devices.plugged]
    address = "ssh://pi@192.168.1.7"
    meter = "shelly:192.168.1.20"              # what measures its energy, unless --meter says otherwise

    [devices.phone]
    address = "adb:R58N12ABCDE"                # as `adb devices` lists it; adb: alone where there is one phone
    benchmark_model = "/data/local/tmp/benchmark_model"
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import tomlkit
import tomlkit.items
from tomlkit.exceptions import TOMLKitError

from device_agents.wire import BOUNDARIES
from edgeprof.deadlines import Deadlines, Seconds
from edgeprof.errors import FleetError

__all__ = ["Device", "Fleet"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LOCAL = "local"
RUNTIMES = ("onnxruntime", "litert", "tflite")
ORIGINS = ("emulated",)
FORMS = "ssh://user@host, ssh://user@host:port, adb:SERIAL, local: or sim:BOARD"

# No leading dash and no shell characters: host and user may end up in the user's own ProxyCommand.
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\\-]*")
HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\]")
SSH_ADDRESS = re.compile(r"ssh://(?:(?P<user>[^@/]*)@)?(?P<host>\[[^\]/]*\]|[^:/@]*)(?::(?P<port>[^/]*))?/?")
# What adb lists: a USB serial number, emulator-5554, host:port, or a name of its own for debugging over Wi-Fi.
PHONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")

Text = Annotated[str, msgspec.Meta(min_length=1)]


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One device and how to reach it. `pythons` names another Python for a runtime that lives in its own environment.

    `origin` overrides what the agent reports where it cannot know it is emulated ("emulated"). `identity` is a
    private key to offer before any other. `connect_timeout_s`, an older name for `deadlines.connect_s`, goes first.
    `simulate` names a board whose simulation this device shall run: its numbers are then simulated, however it is
    reached. `meter` names what measures its energy: a meter of its own, or one of this host as in
    edgeprof/meters/address.py. `meter_boundary` says where its meter sits, for one that cannot tell.
    `benchmark_model` is the path there of TFLite's program of that name (docs/android.md).
    """

    name: str = ""
    address: Text = "local:"
    python: Text = "python3"
    pythons: dict[str, Text] = {}
    groups: list[Text] = []
    origin: str | None = None
    connect_timeout_s: Seconds | None = None
    deadlines: Deadlines = Deadlines()
    identity: Text | None = None
    simulate: Text | None = None
    meter: Text | None = None
    meter_boundary: Text | None = None
    benchmark_model: Text | None = None

    @property
    def connect_s(self) -> float:
        """Seconds for each step of connecting."""
        return self.deadlines.connect_s if self.connect_timeout_s is None else self.connect_timeout_s

    @property
    def scheme(self) -> str:
        """ssh, adb, local or sim."""
        return self.address.partition(":")[0]

    @property
    def host(self) -> str | None:
        """The host as the address names it (it may be an alias of ~/.ssh/config); None if this is no SSH device."""
        host = self._part("host")
        return host.strip("[]") if host else None

    @property
    def port(self) -> int | None:
        """The port in the address; None leaves it to ~/.ssh/config, and then to 22."""
        port = self._part("port")
        return int(port) if port else None

    @property
    def user(self) -> str | None:
        return self._part("user") or None

    @property
    def serial(self) -> str | None:
        """The serial number in the address adb:SERIAL; None for the only phone there is, and for other addresses."""
        return (self.address.partition(":")[2] or None) if self.scheme == "adb" else None

    @property
    def board(self) -> str | None:
        """The simulated board's name, from the address sim:BOARD or `simulate`; None if the device is itself."""
        return self.address.partition(":")[2] if self.scheme == "sim" else self.simulate

    @property
    def slot(self) -> str:
        """What the agent calls it: simulated boards and phones are many devices on one machine; empty for itself."""
        if self.scheme == "adb":
            return re.sub(r"[^A-Za-z0-9.-]", "-", f"adb-{self.serial or 'phone'}")
        return self.name if self.board else ""

    def _part(self, group: str) -> str | None:
        found = SSH_ADDRESS.fullmatch(self.address)
        return found[group] if found else None


class Fleet:
    """The devices of one fleet.toml. `add` and `remove` edit the file, keep its comments and write it atomically."""

    def __init__(self, path: Path, devices: Iterable[Device]) -> None:
        self.path = path
        self._devices = {LOCAL: _this_machine()} | {device.name: device for device in devices}

    @classmethod
    def read(cls, path: Path) -> Fleet:
        """Read a fleet; without the file there is only this machine, named `local`.

        Raises:
            FleetError: names the file, the device and what is wrong with it.
        """
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls(path, ())
        except (OSError, UnicodeDecodeError) as error:
            raise FleetError(f"{path}: cannot be read: {error}", "mend its permissions or its encoding") from error
        except tomllib.TOMLDecodeError as error:
            raise FleetError(
                f"{path}: not valid TOML: {error}", "mend that line; see docs/how-to/devices.md"
            ) from error
        return cls(path, _devices_of(raw, path))

    @property
    def devices(self) -> tuple[Device, ...]:
        return tuple(self._devices.values())

    def device(self, name: str) -> Device:
        """The device of that name.

        Raises:
            FleetError: there is none; names those that look alike.
        """
        if name not in self._devices:
            advice = _near(name, self._devices) or f"add it: edgeprof devices add {name} ssh://user@host"
            raise FleetError(f"no device named {name!r} in {self.path}", advice)
        return self._devices[name]

    def group(self, name: str) -> tuple[Device, ...]:
        """The devices of that group, in the file's order.

        Raises:
            FleetError: no device is in it.
        """
        found = tuple(device for device in self.devices if name in device.groups)
        if not found:
            groups = sorted({group for device in self.devices for group in device.groups})
            advice = _near(name, groups) or "list devices and their groups: edgeprof devices list"
            raise FleetError(f"no device in {self.path} is in group {name!r}", advice)
        return found

    def add(self, device: Device) -> Fleet:
        """Write a device into the file, or change the one of that name; the fleet as it is then.

        Raises:
            FleetError: the device makes no sense, or the file cannot be read or written.
        """
        self.check(device)
        document = self._document()
        devices = document.setdefault("devices", tomlkit.table(is_super_table=True))
        if device.name not in devices:
            # An inline table cannot hold a table of several lines.
            is_inline = isinstance(devices, tomlkit.items.InlineTable)
            devices[device.name] = tomlkit.inline_table() if is_inline else tomlkit.table()
        _change(devices[device.name], _body(device))
        return self._replace(tomlkit.dumps(document))

    def check(self, device: Device) -> None:
        """Raise FleetError if the device's name or address makes no sense."""
        _check(device, self.path)

    def remove(self, name: str) -> Fleet:
        """Take a device out of the file; the fleet as it is then.

        Raises:
            FleetError: it is not in the file, or the file cannot be written.
        """
        self.device(name)
        document = self._document()
        devices = document.get("devices", {})
        if name not in devices:
            raise FleetError(f"{name!r} is built in: {self.path} does not have it", "there is nothing to remove")
        del devices[name]
        return self._replace(tomlkit.dumps(document))

    def _document(self) -> Any:
        try:
            return tomlkit.parse(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return tomlkit.document()
        except (OSError, UnicodeDecodeError, TOMLKitError) as error:
            raise FleetError(f"{self.path}: cannot be edited: {error}", "mend the file by hand first") from error

    def _replace(self, text: str) -> Fleet:
        """Write the file only if it can be read back."""
        try:
            devices = _devices_of(tomllib.loads(text), self.path)
        except tomllib.TOMLDecodeError as error:
            raise FleetError(f"{self.path}: this change would break it: {error}", "edit the file by hand") from error
        self._write(text)
        return Fleet(self.path, devices)

    def _write(self, text: str) -> None:
        # The file a symbolic link points to is replaced, not the link: people keep such files in a repository.
        target = self.path.resolve()
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
            descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).chmod(mode)
                Path(name).replace(target)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise FleetError(f"{self.path}: cannot be written: {error}", "mend its folder's permissions") from error


def _this_machine() -> Device:
    # The interpreter that runs edgeprof has the runtimes that were installed with it; a python3 on PATH may not.
    return Device(name=LOCAL, python=sys.executable)


def _devices_of(raw: dict[str, Any], path: Path) -> list[Device]:
    unknown = sorted(set(raw) - {"devices"})
    if unknown:
        raise FleetError(f"{path}: unknown key {unknown[0]!r}", _near(unknown[0], ["devices"]) or "remove it")
    table = raw.get("devices", {})
    if not isinstance(table, dict):
        raise FleetError(f"{path}: devices: expected tables such as [devices.pi5]", "write one table a device")
    return [_device(name, body, path) for name, body in table.items()]


def _device(name: str, body: Any, path: Path) -> Device:
    where = f"{path}: devices.{name}"
    fields = [field for field in Device.__struct_fields__ if field != "name"]
    if not isinstance(body, dict):
        raise FleetError(
            f"{where}: expected a table with {', '.join(fields)}", f"write [devices.{name}] above its keys"
        )
    _check_keys(body, fields, where)
    if isinstance(body.get("deadlines"), dict):
        _check_keys(body["deadlines"], Deadlines.__struct_fields__, f"{where}: deadlines")
    try:
        device = msgspec.convert({"name": name} | body, Device)
    except msgspec.ValidationError as error:
        raise FleetError(f"{where}: {str(error).replace('`$.', '`')}", "mend that value") from error
    if device.scheme != "ssh" and "python" not in body:
        device = msgspec.structs.replace(device, python=sys.executable)
    _check(device, path)
    return device


def _check_keys(table: dict[str, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise FleetError(f"{where}: unknown key {key!r}", _near(key, known) or f"keys are {', '.join(known)}")


def _check(device: Device, path: Path) -> None:
    if not NAME.fullmatch(device.name):
        raise FleetError(
            f"{path}: {device.name!r} cannot be a device's name", "use letters, digits, dot, dash and underscore"
        )
    where = f"{path}: devices.{device.name}"
    problem = _address_problem(device.address)
    if problem:
        raise FleetError(f"{where}: address {device.address!r}: {problem}", f"use {FORMS}")
    if device.name == LOCAL and device.scheme != "local":
        raise FleetError(
            f"{where}: address {device.address!r}: the name {LOCAL!r} is this machine's", "choose another name"
        )
    if device.simulate is not None and device.scheme == "adb":
        raise FleetError(f"{where}: simulate: a phone behind adb runs no agent", "simulate the board here: sim:BOARD")
    if device.simulate is not None and device.scheme == "sim":
        raise FleetError(f"{where}: simulate: the address names a board already", "leave simulate out")
    if device.simulate is not None and not NAME.fullmatch(device.simulate):
        raise FleetError(f"{where}: simulate {device.simulate!r} cannot be a board's name", "see edgeprof sim list")
    for runtime in device.pythons:
        if runtime not in RUNTIMES:
            advice = f"{_near(runtime, RUNTIMES)} runtimes are {', '.join(RUNTIMES)}".strip()
            raise FleetError(f"{where}: pythons: unknown runtime {runtime!r}", advice)
    if device.meter_boundary is not None and device.meter_boundary not in BOUNDARIES:
        advice = _near(device.meter_boundary, BOUNDARIES) or f"boundaries are {', '.join(BOUNDARIES)}"
        raise FleetError(f"{where}: meter_boundary {device.meter_boundary!r} is not known", advice)
    if device.origin is not None and device.origin not in ORIGINS:
        raise FleetError(
            f"{where}: origin {device.origin!r} cannot be claimed",
            'it may only be "emulated", for a device that cannot know that it is; leave it out otherwise',
        )


def _address_problem(address: str) -> str | None:
    scheme, colon, rest = address.partition(":")
    if scheme == "local" and colon:
        return "nothing may follow local:" if rest else None
    if scheme == "adb" and colon:
        return None if not rest or PHONE.fullmatch(rest) else f"{rest!r} cannot be a phone's serial number"
    if scheme == "sim" and colon:
        return None if NAME.fullmatch(rest) else "it must name a board, as in sim:example"
    if scheme != "ssh" or not colon:
        return "it does not begin with ssh://, adb:, local: or sim:"
    found = SSH_ADDRESS.fullmatch(address)
    if found is None:
        return "it is not of the form ssh://user@host:port"
    user, host, port = found["user"], found["host"], found["port"]
    if user and ":" in user:
        return "passwords are never kept; leave it out and use `edgeprof devices add ... --install-key`"
    if user is not None and not USER.fullmatch(user):
        return f"{user!r} cannot be a user's name"
    if not HOST.fullmatch(host):
        return f"{host!r} cannot be a host's name" if host else "the host is missing"
    if port is not None and not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535):
        return f"{port!r} is no port between 1 and 65535"
    return None


def _near(name: str, known: Iterable[str]) -> str:
    alike = difflib.get_close_matches(name, list(known), n=3)
    return f"did you mean {' or '.join(alike)}?" if alike else ""


def _body(device: Device) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.to_builtins(device)
    body.pop("name")
    body.setdefault("address", device.address)
    if device.scheme != "ssh" and device.python == sys.executable:
        body.pop("python")
    return body


def _change(table: Any, body: dict[str, Any]) -> None:
    if "pythons" not in body and "pythons" in table:
        del table["pythons"]  # the last environment was removed; other keys are changed and never taken away
    for key, value in body.items():
        if isinstance(value, dict):
            inline = tomlkit.inline_table()
            inline.update(value)
            table[key] = inline
        elif key not in table or table[key] != value:
            table[key] = value
