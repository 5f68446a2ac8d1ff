"""Runs for strangers: what is not in a bundle, and what is not accepted from one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from device_agents.wire import FileRef, InputFile, RuntimeOptions
from edgeprof.errors import StoreError
from edgeprof.run import Run
from edgeprof.sharing import read_bundle, write_bundle
from edgeprof.statistics import summarise
from edgeprof.verdict import judge
from tests.unit.energy_cases import METER, Truth, simulated
from tests.unit.run_factory import make_run

WORDS = {"anns-desk", "ann", "pi-in-the-cellar", "cellar.example.org"}


def private_run() -> Run:
    """A run that tells much about who made it."""
    run = make_run()
    job = run.profile.job
    files = (FileRef("/home/ann/secret/model.onnx", "a" * 64, 5), FileRef("../weights/w.bin", "b" * 64, 5))
    options = RuntimeOptions(
        library="/home/ann/lib.so", delegate="/opt/ann/d.so", delegate_options={"licence": "K-123"},
        provider_options={"cache": "/home/ann/cache"},
    )  # fmt: skip
    job = dataclasses.replace(
        job,
        model=dataclasses.replace(job.model, name="/home/ann/secret/model.onnx", files=files),
        options=options,
        inputs=(InputFile("image", "float32", (1, 3), FileRef("/home/ann/cat.npy", "c" * 64, 12)),),
    )
    profile = dataclasses.replace(
        run.profile,
        job=job,
        in_force={"library": "/home/ann/lib.so", "threads": "1"},
        notes=("read /sys/class/thermal/x and ~/models/y", "asked 192.168.7.5:80, fe80:0:0:0:1, 02:42:ac:11:00:02"),
        operators_missing="see https://intranet.example.org/x or ann@cellar.example.org",
    )
    notes = ("passed over: pi-in-the-cellar: litert is not there", "copied from anns-desk:/srv/x and C:\\Users\\ann\\x")
    return dataclasses.replace(run, device="pi-in-the-cellar", profile=profile, notes=notes)


def test_names_addresses_paths_and_serials_are_not_in_a_bundle() -> None:
    text = write_bundle([private_run()], WORDS).decode()

    for word in ("ann", "cellar", "/home", "secret", "192.168", "fe80", "02:42", "intranet", "/srv", "Users", "K-123",
                 "cat.npy", "weights", "/opt", "~/"):  # fmt: skip
        assert word not in text, word
    assert "/sys/class/thermal/x" in text
    assert '"threads": "1"' in text


def test_a_meter_beside_the_device_is_known_by_its_kind_alone() -> None:
    energy = simulated(Truth(), seed=1)
    assert energy.trace is not None
    meter = dataclasses.replace(energy.trace.meter, name="joulescope:004711", source="Joulescope 004711 on USB")
    energy = dataclasses.replace(energy, trace=dataclasses.replace(energy.trace, meter=meter))
    run = make_run()
    run = dataclasses.replace(run, profile=dataclasses.replace(run.profile, energy=energy))

    text = write_bundle([run], ()).decode()

    assert "004711" not in text
    assert "joulescope" in text


def test_a_meter_of_the_device_keeps_its_name_and_a_node_its_path() -> None:
    run = make_run()
    energy = simulated(Truth(), seed=1, meter=dataclasses.replace(METER, name="hwmon:ina226@1-0040"))
    operators = (dataclasses.replace(run.operators[0], nodes=("/backbone/stem/Conv",)), *run.operators[1:])
    run = dataclasses.replace(run, profile=dataclasses.replace(run.profile, energy=energy), operators=operators)

    text = write_bundle([run], WORDS).decode()

    assert "hwmon:ina226@1-0040" in text
    assert "/backbone/stem/Conv" in text


def test_what_is_computed_from_a_shared_run_is_what_was_computed_before() -> None:
    run = make_run()

    (read,) = read_bundle(write_bundle([run], WORDS), "bundle.json")

    assert summarise(read.profile) == summarise(run.profile)
    assert judge(read.profile).level == judge(run.profile).level
    assert [operator.nodes for operator in read.operators] == [operator.nodes for operator in run.operators]


def test_ids_and_devices_of_strangers_are_made_of_the_content() -> None:
    data = write_bundle([make_run()], WORDS)

    (run,), (again,) = read_bundle(data, "one"), read_bundle(data, "two")

    assert run == again
    assert run.id.startswith("shared-")
    assert run.device.startswith("shared-")


def test_the_same_run_is_the_same_in_every_bundle_and_when_it_is_shared_on() -> None:
    one = make_run()
    other = dataclasses.replace(one, created_at_s=1.8e9)

    (alone,) = read_bundle(write_bundle([one], WORDS), "alone")
    beside = read_bundle(write_bundle([other, one], WORDS), "beside")
    (shared_on,) = read_bundle(write_bundle([alone], ()), "on")

    assert alone in beside
    assert shared_on == alone


def test_devices_of_one_kind_stay_apart_and_one_device_stays_one() -> None:
    one = make_run()
    runs = [one, dataclasses.replace(one, device="second"), dataclasses.replace(one, created_at_s=1.8e9)]

    devices = [run.device for run in read_bundle(write_bundle(runs, ()), "bundle.json")]

    assert devices[0] == devices[2] != devices[1]


def test_a_stranger_needs_no_edgeprof_to_check_a_digest() -> None:
    bundle = json.loads(write_bundle([make_run()], ()))

    (shared,) = bundle["runs"]
    canonical = json.dumps(shared["run"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert shared["digest"] == hashlib.sha256(canonical.encode()).hexdigest()


def test_a_name_of_ours_in_a_key_is_refused_rather_than_shared() -> None:
    run = make_run()
    options = dataclasses.replace(run.profile.job.options, shapes={"anns-desk": (1, 2)})
    job = dataclasses.replace(run.profile.job, options=options)
    run = dataclasses.replace(run, profile=dataclasses.replace(run.profile, job=job))

    with pytest.raises(StoreError, match="'anns-desk' has a name of yours in it"):
        write_bundle([run], WORDS)


# --- what is refused -----------------------------------------------------------------------------------------------


def digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def forged(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A bundle whose run was changed by somebody who knows how to make digests."""
    bundle = json.loads(write_bundle([make_run()], ()))
    (shared,) = bundle["runs"]
    change(shared["run"])
    shared["digest"] = digest(shared["run"])
    bundle["digest"] = digest([shared["digest"]])
    return json.dumps(bundle).encode()


def profile_of(run: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = run["profile"]
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: run.update(extra=1), "unknown field 'extra'"),
        (lambda run: profile_of(run)["machine"].update(serial="1"), "unknown field 'serial'"),
        (lambda run: run.update(schema=99), "schema 99"),
        (lambda run: run.pop("profile"), "profile"),
        (lambda run: run.update(created_at_s="now"), "created_at_s"),
        (lambda run: run.update(device="\u001b[2J"), "control character"),
        (lambda run: run.update(notes=["x" * 30_000]), "a text of 30000 characters"),
        (lambda run: run.update(notes=["\u202egpj.exe"]), "control character"),
        (lambda run: run.update(device="My Pi"), "device: 'My Pi'"),
        (lambda run: profile_of(run).update(origin="guessed"), "profile.origin"),
        (lambda run: profile_of(run)["job"].update(runtime="simulated"), "a simulation computed it"),
        (lambda run: profile_of(run)["job"]["model"].update(digest="abc"), "no SHA-256"),
        (lambda run: profile_of(run)["rounds"][0]["latencies_s"].__setitem__(0, -1.0), "latencies_s: -1.0"),
        (lambda run: profile_of(run)["rounds"][0]["latencies_s"].__setitem__(0, 0.0), "took no time"),
        (lambda run: profile_of(run)["rounds"][0]["latencies_s"].__setitem__(0, 1e9), "not between 0 and 86400"),
        (lambda run: profile_of(run)["rounds"].clear(), "profile.rounds: nothing was measured"),
        (
            lambda run: profile_of(run)["rounds"][0]["latencies_s"].clear(),
            "rounds[0].latencies_s: nothing was measured",
        ),
        (lambda run: profile_of(run)["rounds"][0]["before"]["temperatures_c"].update(cpu=9000.0), "temperatures_c"),
        (lambda run: profile_of(run)["operators"].update(graph="eJw="), "profile.operators.graph"),
        (lambda run: run["operators"][0].update(kernel=999), "operators[0].kernel"),
    ],
)
def test_what_no_honest_run_contains_is_refused_and_named(
    change: Callable[[dict[str, Any]], object], words: str
) -> None:
    with pytest.raises(StoreError) as refused:
        read_bundle(forged(change), "odd.json")

    assert words in str(refused.value)
    assert str(refused.value).startswith("odd.json: runs[0]")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda bundle: bundle.update(version=2), "version 2"),
        (lambda bundle: bundle.update(format="other"), "format 'other'"),
        (lambda bundle: bundle.update(more=1), "unknown field"),
        (lambda bundle: bundle["runs"].append(bundle["runs"][0]), "the list of runs"),
        (lambda bundle: bundle["runs"][0]["run"].update(notes=["faster"]), "not what was shared"),
        (lambda bundle: bundle.update(runs=bundle["runs"] * 1001), "1001 runs"),
        (lambda bundle: bundle.update(runs={}), "not a bundle of runs"),
        (lambda bundle: bundle.update(runs=[]), "there are no runs in it"),
    ],
)
def test_a_bundle_that_was_changed_is_refused(change: Callable[[dict[str, Any]], object], words: str) -> None:
    bundle = json.loads(write_bundle([make_run()], ()))
    change(bundle)

    with pytest.raises(StoreError, match=words):
        read_bundle(json.dumps(bundle).encode(), "odd.json")


def test_text_that_is_no_json_or_endlessly_deep_is_refused() -> None:
    for data in (b'{"format": "edgeprof-bundle"', b'{"format":"edgeprof-bundle","version":1,"runs":' + b"[" * 100_000):
        with pytest.raises(StoreError, match="not a bundle"):
            read_bundle(data, "odd.json")


@pytest.mark.parametrize(
    "value", ["1e999", "NaN", "[" * 900 + "]" * 900, "9" * 5000], ids=["e999", "nan", "deep", "long"]
)
def test_numbers_and_lists_without_end_are_refused(value: str) -> None:
    text = write_bundle([make_run()], ()).decode()
    assert '"seed": 0' in text

    with pytest.raises(StoreError, match=r"^odd\.json: "):
        read_bundle(text.replace('"seed": 0', f'"seed": {value}', 1).encode(), "odd.json")


def test_a_file_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(StoreError, match="are not accepted"):
        read_bundle(b" " * (64 * 1024 * 1024 + 1), "big.json")
