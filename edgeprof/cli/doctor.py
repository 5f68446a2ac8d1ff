"""`edgeprof devices doctor`: what a device lacks, and how to mend it."""

from __future__ import annotations

import click

MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


@click.command(epilog="\b\nExample:\n  edgeprof devices doctor pi5")
@click.argument("name", default="local")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
def doctor(name: str, as_json: bool) -> int:
    """Say what works on a device, what is missing there, and how to mend it.

    Exit code 1 when profiling would fail.
    """
    import dataclasses
    import json

    from edgeprof.doctor import examine
    from edgeprof.fleet import Fleet
    from edgeprof.places import fleet_file

    device = Fleet.read(fleet_file()).device(name)
    findings = []
    for finding in examine(device):
        findings.append(finding)
        if not as_json:
            click.echo(f"{MARKS[finding.level]}  {finding.what}")
            if finding.advice:
                click.echo(f"         what to do: {finding.advice}")
    if as_json:
        click.echo(json.dumps({"device": name, "findings": [dataclasses.asdict(f) for f in findings]}, indent=1))
    return int(any(f.level == "problem" for f in findings))
