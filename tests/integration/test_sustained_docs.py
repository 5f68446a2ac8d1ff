"""What the pages about running without rest and about lineage tell people to type is typed here."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgeprof.reports.lineage import Family
from edgeprof.reports.sustained import Endured
from tests.integration.test_docs import ROOT, said_by_each_command

HOW_TO = ROOT / "docs" / "how-to"


@pytest.mark.slow
def test_the_page_about_running_without_rest_can_be_followed_to_its_end(tmp_path: Path) -> None:
    said = said_by_each_command(HOW_TO / "sustained.md", tmp_path)

    assert "after 190 to 200 s" in said["edgeprof runs sustained latest"]
    assert (tmp_path / "hot.json").exists()
    assert "no clock was held down within 3" in list(said.values())[-1]


def test_the_example_on_the_page_about_lineage_works(tmp_path: Path) -> None:
    said = said_by_each_command(HOW_TO / "lineage.md", tmp_path)

    assert list(said.values()) == ["static-int8\n"]


@pytest.mark.parametrize(("page", "kind"), [("sustained.md", Endured), ("lineage.md", Family)])
def test_the_pages_explain_every_field_of_their_json(page: str, kind: type) -> None:
    text = (HOW_TO / page).read_text()
    definitions = msgspec.json.schema(kind)["$defs"]
    explained_elsewhere = {"Descent"}

    missing = [
        f"{name}.{field}"
        for name, definition in definitions.items()
        if name not in explained_elsewhere
        for field in definition["properties"]
        if f"`{field}`" not in text
    ]

    assert missing == []
