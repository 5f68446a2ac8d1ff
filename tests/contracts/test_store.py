"""The laws of a store, whatever database holds it; a new kind of database is one more `place` in conftest.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from device_agents.wire import SIMULATED
from edgeprof.errors import StoreError
from edgeprof.run import encode_run
from edgeprof.store import Store
from tests.unit.run_factory import make_profile, make_run


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    with Store(place) as store:
        yield store


class TestRuns:
    @pytest.mark.parametrize("with_operators", [True, False])
    def test_what_goes_in_comes_out_equal(self, store: Store, with_operators: bool) -> None:
        run = make_run(with_operators=with_operators)

        run_id = store.add(run)

        assert run_id == run.id
        assert store.get(run.id) == run

    def test_a_run_is_replaced_by_what_says_more_of_it(self, store: Store) -> None:
        before = make_run()
        after = replace(before, loops_missing="the device left")
        store.add(before)

        store.replace(before, after)

        assert store.get(before.id) == after

    def test_a_run_that_was_changed_meanwhile_is_not_overwritten(self, store: Store) -> None:
        before = make_run()
        changed = replace(before, notes=("by somebody else",))
        store.add(before)
        store.replace(before, changed)

        with pytest.raises(StoreError, match="is not what it was"):
            store.replace(before, replace(before, loops_missing="mine"))

        assert store.get(before.id) == changed

    def test_text_of_any_language_and_any_character_survives(self, store: Store) -> None:
        run = make_run(device="küche 👩‍🍳 ' \" ; -- %_ \x00 [bold]", notes=("zeile\r\nzwei", "\x1b[31m"))

        store.add(run)

        assert store.get(run.id) == run

    def test_a_store_outlives_the_process_that_wrote_it(self, place: str) -> None:
        run = make_run()
        with Store(place) as first:
            first.add(run)

        with Store(place) as second:
            found = second.get(run.id)

        assert found == run

    def test_two_openings_see_each_others_runs(self, store: Store, place: str) -> None:
        with Store(place) as other:
            other.add(make_run("one"))
            store.add(make_run("two"))

            seen = [row.id for row in other.list()]

        assert sorted(seen) == ["one", "two"]

    def test_an_id_that_is_taken_is_refused_and_the_first_run_stays(self, store: Store) -> None:
        first = make_run(seed=1)
        store.add(first)

        with pytest.raises(StoreError, match="another run with the id"):
            store.add(make_run(seed=2))

        assert store.get(first.id) == first

    def test_a_unique_beginning_of_an_id_is_enough(self, store: Store) -> None:
        store.add(make_run("20260101-a"))
        store.add(make_run("20260102-b"))

        found = store.get("20260102")

        assert found.id == "20260102-b"

    def test_a_beginning_that_several_ids_share_is_an_error_that_lists_them(self, store: Store) -> None:
        store.add(make_run("20260101-a"))
        store.add(make_run("20260102-b"))

        with pytest.raises(StoreError, match=r"begins 2 run ids: .*20260101-a"):
            store.get("2026")

    def test_a_whole_id_wins_over_longer_ones_that_begin_with_it(self, store: Store) -> None:
        store.add(make_run("one"))
        store.add(make_run("one-more"))

        found = store.find("one")

        assert found == "one"

    @pytest.mark.parametrize("reference", ["ONE", "on%", "o_e", "", "two", "' OR 1=1 --"])
    def test_an_id_is_taken_literally(self, store: Store, reference: str) -> None:
        store.add(make_run("one"))

        with pytest.raises(StoreError, match="no run"):
            store.find(reference)

    def test_latest_is_the_newest_by_time_not_the_last_that_was_added(self, store: Store) -> None:
        store.add(make_run("young", created_at_s=2000.0))
        store.add(make_run("old", created_at_s=1000.0))

        assert store.get("latest").id == "young"
        assert [row.id for row in store.list()] == ["young", "old"]

    def test_an_empty_store_says_that_it_is_empty(self, store: Store) -> None:
        with pytest.raises(StoreError, match="no runs yet") as caught:
            store.get("latest")

        assert "edgeprof profile" in caught.value.advice
        assert store.list() == ()

    def test_runs_are_found_by_device_model_and_runtime(self, store: Store) -> None:
        base = make_profile()
        other_model = replace(base.job.model, name="other.tflite", digest="ee" * 32)
        store.add(make_run("a", created_at_s=3.0))
        store.add(make_run("b", created_at_s=2.0, device="pixel", origin=SIMULATED))
        store.add(make_run("c", created_at_s=1.0, job=replace(base.job, model=other_model, runtime="litert")))

        assert [row.id for row in store.list(device="pixel")] == ["b"]
        assert [row.id for row in store.list(model="net.onnx")] == ["a", "b"]
        assert [row.id for row in store.list(model="eeee")] == ["c"]
        assert [row.id for row in store.list(runtime="litert")] == ["c"]
        assert [row.id for row in store.list(limit=2)] == ["a", "b"]
        assert [row.id for row in store.list(limit=0)] == []
        assert store.list(device="pixel")[0].origin == SIMULATED
        assert store.list(device="nobody") == ()

    def test_deleting_removes_exactly_what_was_named(self, store: Store) -> None:
        for run_id in ("a", "b", "c"):
            store.add(make_run(run_id))

        n_removed = store.delete(["a", "c", "a"])

        assert n_removed == 2
        assert [row.id for row in store.list()] == ["b"]

    def test_deleting_an_unknown_run_removes_nothing(self, store: Store) -> None:
        store.add(make_run("a"))

        with pytest.raises(StoreError, match="no run 'b'"):
            store.delete(["a", "b"])

        assert [row.id for row in store.list()] == ["a"]

    def test_importing_adds_what_is_new_and_leaves_what_is_equal(self, store: Store) -> None:
        store.add(make_run("a"))

        imported = store.import_runs([make_run("a"), make_run("b")])

        assert imported.added == ("b",)
        assert imported.known == ("a",)

    def test_importing_is_all_or_nothing(self, store: Store) -> None:
        store.add(make_run("a", seed=1))

        with pytest.raises(StoreError, match="another run with the id a"):
            store.import_runs([make_run("b"), make_run("a", seed=2)])

        assert [row.id for row in store.list()] == ["a"]
        assert store.get("a") == make_run("a", seed=1)

    @pytest.mark.parametrize("run_id", ["", "latest", "a/b", "-x", "a b", "x" * 101, "ä"])
    def test_an_id_that_could_not_be_typed_is_refused(self, store: Store, run_id: str) -> None:
        with pytest.raises(StoreError, match="cannot be a run's id"):
            store.add(make_run(run_id))

    @pytest.mark.parametrize("number", [float("nan"), float("inf")])
    def test_a_number_that_json_cannot_carry_is_refused_before_anything_is_written(
        self, store: Store, number: float
    ) -> None:
        with pytest.raises(StoreError, match=r"cannot be written|would not read back"):
            store.add(make_run(load_s=number))

        assert store.list() == ()

    def test_half_a_surrogate_pair_is_refused(self, store: Store) -> None:
        with pytest.raises(StoreError, match="cannot be written"):
            store.add(make_run(notes=("\ud800",)))

        assert store.list() == ()

    def test_a_store_that_is_not_open_says_so(self, place: str) -> None:
        with pytest.raises(StoreError, match="not open"):
            Store(place).list()

    def test_a_document_of_twenty_megabytes_comes_out_equal(self, store: Store) -> None:
        run = make_run(notes=tuple(f"{k}: {chr(0x1F469)}" * 50 for k in range(38_000)))
        assert len(encode_run(run)) > 20_000_000

        store.add(run)

        assert store.get(run.id) == run

    def test_many_threads_write_through_one_store(self, store: Store) -> None:
        def write(k: int) -> None:
            store.add(make_run(f"run-{k}"))
            assert store.get(f"run-{k}").id == f"run-{k}"

        with ThreadPoolExecutor(64) as threads:
            list(threads.map(write, range(128)))

        assert {row.id for row in store.list()} == {f"run-{k}" for k in range(128)}

    def test_of_two_that_add_the_same_id_at_once_one_is_refused(self, store: Store, place: str) -> None:
        both_ready = threading.Barrier(2)

        def add(k: int) -> str:
            with Store(place) as mine:
                both_ready.wait(timeout=60)
                try:
                    return mine.add(make_run("same", seed=k))
                except StoreError as error:
                    return str(error)

        with ThreadPoolExecutor(2) as threads:
            said = sorted(threads.map(add, (1, 2)))

        assert [answer == "same" for answer in said].count(True) == 1
        assert any("another run with the id same" in answer for answer in said)

    def test_the_devices_that_have_runs_are_told_in_order(self, store: Store) -> None:
        for run_id, device in (("a", "pixel"), ("b", "board"), ("c", "pixel")):
            store.add(make_run(run_id, device=device))

        assert store.devices() == ("board", "pixel")
