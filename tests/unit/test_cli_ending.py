"""How the command line ends when something inside it fails."""

from __future__ import annotations

import click
import pytest

from edgeprof import cli


def test_an_end_of_file_deep_inside_is_no_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def breaks() -> None:
        raise EOFError("the connection ended")

    monkeypatch.setattr(cli, "cli", breaks)

    with pytest.raises(SystemExit) as ended:
        cli.main([])

    assert ended.value.code == 1
    assert "a defect: EOFError: the connection ended" in capsys.readouterr().err
