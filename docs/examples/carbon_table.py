"""One model on several boards in three countries, in both modes: python carbon_table.py RATE RUN.json ...

Prints a Markdown table of CO2e per inference, with where 90 % of the draws lie.
"""

import sys
from pathlib import Path

from edgeprof.carbon import carbon_of
from edgeprof.reports.carbon import on_a_line
from edgeprof.reports.document import read_documents

ZONES = ("FR", "DE", "IN")
MODES = ("active", "reserved")

rate, *files = sys.argv[1:]
heads = [f"{zone}, {mode}" for zone in ZONES for mode in MODES]
print("| board | energy | " + " | ".join(heads) + " |")
print("|---" * (2 + len(heads)) + "|")
for file in files:
    (run,) = read_documents(Path(file).read_bytes(), file)
    cells = []
    for zone in ZONES:
        statement = carbon_of(run, zone=zone, rate=rate)
        for mode in MODES:
            cells.append(on_a_line(statement.allocation(mode).total_g))
    kind = "measured" if statement.is_measured else f"modelled, {run.profile.origin}"
    print(f"| {run.device} | {kind} | " + " | ".join(cells) + " |")
