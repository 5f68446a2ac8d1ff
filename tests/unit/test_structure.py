"""The structural check: what counts as covered, what fails, and that every page says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import edgeprof
from edgeprof.models import read_model
from edgeprof.models.structure import MOST_NAMES, check_structure
from edgeprof.reports.structure import structure_line
from edgeprof.run import Operator, Structure
from latency_models.graph import Graph
from tests.unit import onnx_maker
from tests.unit.run_factory import make_run

BROKEN = Structure(
    n_nodes=9, n_grouped=5, n_folded=1, n_idle=1, n_repeated=1, n_missing=1, n_unmapped=1,
    repeated=("twice",), missing=("lost",), unmapped=(4,),
)  # fmt: skip


def block(tmp_path: Path) -> Graph:
    return read_model(onnx_maker.save(onnx_maker.residual_block(), tmp_path / "block.onnx")).graph


def operator(kernel: int, *nodes: str, origin: str = "fused") -> Operator:
    return Operator(kernel=kernel, origin=origin, nodes=nodes)


def test_nodes_in_one_group_each_are_no_failure(tmp_path: Path) -> None:
    operators = [operator(0, "n0", "n1", "n2"), operator(1, "n3", "n4"), operator(2, origin="layout")]

    found = check_structure(block(tmp_path), operators, folded={"n5"}, idle=set())

    assert found == Structure(n_nodes=6, n_grouped=5, n_folded=1, n_idle=0)
    assert found.n_failures == 0


def test_kernels_with_the_same_nodes_are_one_group(tmp_path: Path) -> None:
    operators = [operator(0, "n0"), operator(1, "n0")]

    found = check_structure(block(tmp_path), operators, folded=set(), idle={"n1", "n2", "n3", "n4", "n5"})

    assert (found.n_grouped, found.n_idle, found.n_failures) == (1, 5, 0)


def test_nodes_in_several_groups_in_none_and_kernels_without_origin_are_failures_by_name(tmp_path: Path) -> None:
    operators = [operator(0, "n0", "n1"), operator(1, "n1", "n2"), operator(2, origin="unmapped")]

    found = check_structure(block(tmp_path), operators, folded=set(), idle={"n4", "n5"})

    assert (found.repeated, found.missing, found.unmapped) == (("n1",), ("n3",), (2,))
    assert found.n_failures == 3


def test_of_very_many_failures_the_first_are_named_and_all_are_counted(tmp_path: Path) -> None:
    operators = [operator(k, origin="unmapped") for k in range(MOST_NAMES + 7)]

    found = check_structure(block(tmp_path), operators, folded=set(), idle=set())

    assert found.n_unmapped == MOST_NAMES + 7
    assert len(found.unmapped) == MOST_NAMES


def test_the_line_names_what_fails() -> None:
    line = structure_line(BROKEN)

    assert line.startswith("5 of 9 nodes in exactly one group, 1 computed at load, 1 not run")
    assert "1 node in several groups: twice" in line
    assert "1 node in none: lost" in line
    assert "1 kernel without origin: 4" in line


def test_every_form_of_a_run_has_its_structure() -> None:
    profile = edgeprof.Profile(replace(make_run(), structure=BROKEN))

    assert "in none: lost" in " ".join(str(profile).split())
    assert "in none: lost" in profile._repr_html_()
    assert profile.to_dict()["structure"]["missing"] == ["lost"]
