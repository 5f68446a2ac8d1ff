"""The packed agent: small, reproducible, complete."""

from __future__ import annotations

import ast
import io
import zipfile
from pathlib import Path

from edgeprof.packing import pack_agent

SOURCES = Path(__file__).parents[2] / "device_agents"


def meaning(source: bytes) -> str:
    """The program without its docstrings, with the place of everything else in it."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body[0] = ast.copy_location(ast.Pass(), node.body[0])
    for node in ast.walk(tree):
        if hasattr(node, "end_col_offset"):
            node.end_col_offset = 0  # a docstring may end what it is in
    return ast.dump(tree, include_attributes=True)


def test_two_packs_are_the_same_bytes() -> None:
    assert pack_agent() == pack_agent()


def test_every_source_of_the_agent_is_in_the_archive_without_its_prose() -> None:
    archive = zipfile.ZipFile(io.BytesIO(pack_agent().data))

    packed = {name: archive.read(name) for name in archive.namelist() if name != "__main__.py"}

    sources = {str(p.relative_to(SOURCES.parent)): p.read_bytes() for p in SOURCES.rglob("*.py")}
    assert {name: meaning(data) for name, data in packed.items()} == {n: meaning(d) for n, d in sources.items()}
    assert not any(b"\n# " in data or b"Raises:" in data for data in packed.values())


def test_the_archive_does_not_remember_when_or_by_whom_it_was_made() -> None:
    archive = zipfile.ZipFile(io.BytesIO(pack_agent().data))

    assert {(entry.date_time, entry.create_system) for entry in archive.infolist()} == {((1980, 1, 1, 0, 0, 0), 3)}


def test_the_agent_is_small() -> None:
    assert len(pack_agent().data) < 130_000
