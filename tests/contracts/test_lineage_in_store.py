"""The laws of lineage in a store: what was told once stays, circles end, and runs bring it along."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from edgeprof.errors import StoreError
from edgeprof.lineage import Descent
from edgeprof.store import Store
from tests.unit.run_factory import DIGEST, make_run


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    with Store(place) as store:
        yield store


def digest(name: str) -> str:
    return (name.encode().hex() * 64)[:64]


def descent(child: str, parent: str, at_s: float = 1000.0, **changes: Any) -> Descent:
    plain = Descent(
        child_digest=digest(child),
        child_name=f"{child}.onnx",
        parent_digest=digest(parent),
        transform="static-int8",
        tool="onnxruntime",
        tool_version="1.31.1",
        options={"calibration": "entropy 99.9 %", "küche": "👩‍🍳 ' \" -- [bold]"},
        created_at_s=at_s,
    )
    return replace(plain, **changes)


def test_what_goes_in_comes_out_equal(store: Store) -> None:
    told = descent("b", "a")

    n_new = store.add_lineage(told)

    assert n_new == 1
    assert store.lineage(digest("b")).ancestors == (told,)
    assert store.lineage(digest("b")).descendants == ()
    assert store.lineage(digest("a")).descendants == (told,)
    assert store.lineage(digest("a")).ancestors == ()


def test_ancestors_and_descendants_are_followed_to_the_end_the_nearest_first(store: Store) -> None:
    chain = [
        descent(child, parent, at_s) for child, parent, at_s in (("d", "c", 3.0), ("b", "a", 1.0), ("c", "b", 2.0))
    ]
    side = descent("x", "a", 4.0)
    store.add_lineage(*chain, side)

    found = store.lineage(digest("c"))

    assert [edge.parent_digest for edge in found.ancestors] == [digest("b"), digest("a")]
    assert [edge.child_digest for edge in found.descendants] == [digest("d")]
    assert [edge.child_digest for edge in store.lineage(digest("a")).descendants] == list(map(digest, "bxcd"))


def test_a_model_of_several_parents_and_one_made_in_several_ways_have_every_edge(store: Store) -> None:
    edges = (descent("c", "a", 1.0), descent("c", "b", 2.0), descent("c", "b", 3.0, transform="shapes"))
    store.add_lineage(*edges)

    assert store.lineage(digest("c")).ancestors == edges


def test_transforms_that_lead_back_to_where_they_began_end(store: Store) -> None:
    circle = (descent("b", "a", 1.0), descent("c", "b", 2.0), descent("a", "c", 3.0))
    store.add_lineage(*circle)

    found = store.lineage(digest("a"))

    assert {edge.child_digest for edge in found.ancestors} == set(map(digest, "abc"))
    assert {edge.child_digest for edge in found.descendants} == set(map(digest, "abc"))


def test_a_transform_that_changed_nothing_is_not_kept(store: Store) -> None:
    assert store.add_lineage(descent("a", "a")) == 0
    assert store.lineage(digest("a")).ancestors == ()


def test_what_was_told_first_stays(store: Store) -> None:
    first = descent("b", "a", tool_version="1")
    store.add_lineage(first)

    n_new = store.add_lineage(descent("b", "a", tool_version="2"), descent("c", "a"))

    assert n_new == 1
    assert store.lineage(digest("b")).ancestors == (first,)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"child_digest": "short"}, "child_digest is 'short', which is no SHA-256"),
        ({"parent_digest": "F" * 64}, "parent_digest is"),
        ({"created_at_s": float("nan")}, "which is no date"),
        ({"created_at_s": -1.0}, "which is no date"),
        ({"options": {"x": "\ud800"}}, "options cannot be written"),
        ({"tool": "\ud800"}, "not valid Unicode"),
    ],
)
def test_what_no_reader_could_use_is_refused_and_nothing_is_kept(
    store: Store, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(StoreError, match=told):
        store.add_lineage(descent("b", "a"), descent("c", "a", **changes))

    assert store.lineage(digest("a")).descendants == ()


def test_a_thousand_files_of_one_are_all_found(store: Store) -> None:
    names = [f"{k:04}" for k in range(1000)]
    store.add_lineage(*(descent(name, "a") for name in names), *(descent(f"of {name}", name) for name in names[::100]))

    found = store.lineage(digest("a"))

    assert len(found.descendants) == 1010


def test_importing_keeps_runs_and_lineage_or_neither(store: Store) -> None:
    told = descent("b", "a")
    store.add(make_run("taken", seed=1))

    with pytest.raises(StoreError, match="another run with the id taken"):
        store.import_runs([make_run("new"), make_run("taken", seed=2)], [told])

    assert store.lineage(digest("a")).descendants == ()
    assert store.import_runs([make_run("new")], [told]).added == ("new",)
    assert store.lineage(digest("a")).descendants == (told,)


def test_a_model_is_found_by_its_name_in_a_run_or_in_lineage_and_by_the_beginning_of_its_digest(store: Store) -> None:
    store.add(make_run())
    store.add_lineage(descent("b", "a"))

    assert store.find_model("net.onnx") == DIGEST
    assert store.find_model(DIGEST[:8].upper()) == DIGEST
    assert store.find_model("b.onnx") == digest("b")
    assert store.find_model(digest("a")[:6]) == digest("a")
    assert store.model_names([DIGEST, digest("a"), digest("b")]) == {DIGEST: "net.onnx", digest("b"): "b.onnx"}


@pytest.mark.parametrize("reference", ["", "net.onx", "no%", "f" * 64])
def test_a_model_that_nobody_has_heard_of_is_an_error(store: Store, reference: str) -> None:
    store.add(make_run())

    with pytest.raises(StoreError, match="no run and no lineage of a model") as caught:
        store.find_model(reference)

    assert ("did you mean 'net.onnx'" in str(caught.value)) == (reference == "net.onx")


def test_a_name_that_several_models_have_is_an_error_that_lists_them(store: Store) -> None:
    store.add_lineage(descent("b", "a", child_name="net.onnx"), descent("c", "a", child_name="net.onnx"))

    with pytest.raises(StoreError, match=f"means 2 models: {digest('b')[:12]}"):
        store.find_model("net.onnx")
