"""The wire: what one side writes, the other reads, and garbage is refused with the path of what is wrong."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agents import decoding, wire

st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
JOBS = st.from_type(wire.Job)
FEW = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])


@FEW
@given(JOBS)
def test_a_job_survives_the_way_to_the_device(job: wire.Job) -> None:
    line = wire.encode(wire.Request(3, "outputs", job))

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert wire.decode_request(line) == wire.Request(3, "outputs", job)


@FEW
@given(JOBS)
def test_host_and_device_read_the_same_job(job: wire.Job) -> None:
    body = json.loads(wire.encode(wire.Request(3, "profile", job)))["body"]

    assert msgspec.convert(body, wire.Job) == decoding.build(wire.Job, body, "$") == job


@pytest.mark.parametrize("kind", sorted({k.__name__: k for k in wire.REPLIES.values()}.items()))
def test_every_reply_survives_the_way_to_the_host(kind: tuple[str, type]) -> None:
    @FEW
    @given(st.from_type(kind[1]))
    def round_trip(body: Any) -> None:
        line = wire.encode(wire.Reply(1, "x", body))

        assert msgspec.convert(json.loads(line)["body"], kind[1]) == body

    round_trip()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"hello\n", "not JSON"),
        (b"[]\n", "not a request"),
        (b'{"id": 1, "request": "fly"}\n', "not a request"),
        (b'{"id": "1", "request": "ping"}\n', "not a request"),
        (b'{"id": 1, "request": "profile", "body": 3}\n', "$: expected dict, got int"),
        (b'{"id": 1, "request": "profile", "body": {}}\n', "$: job is missing"),
        (b'{"id": 1, "request": "missing", "body": {"files": [{"name": 3}]}}\n', "$.files[0].name: expected str"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[" * 100_000 + b"\n", "not JSON"),
    ],
)
def test_garbage_is_refused_with_the_path_of_what_is_wrong(line: bytes, says: str) -> None:
    with pytest.raises(decoding.WireError) as caught:
        wire.decode_request(line)

    assert says in str(caught.value)


def test_a_boolean_is_not_a_number() -> None:
    with pytest.raises(decoding.WireError, match="expected int, got bool"):
        decoding.build(wire.FileRef, {"name": "a", "sha256": "b", "size_bytes": True}, "$")


def test_not_a_number_cannot_travel() -> None:
    gate = wire.GateOutcome(passed=True, waited_s=float("nan"))

    with pytest.raises(ValueError, match="JSON"):
        wire.encode(wire.Reply(1, "x", gate))


def test_fields_of_a_newer_peer_are_ignored() -> None:
    body = {**dataclasses.asdict(wire.FileRef("a", "b", 1)), "colour": "red"}

    assert decoding.build(wire.FileRef, body, "$") == msgspec.convert(body, wire.FileRef) == wire.FileRef("a", "b", 1)
