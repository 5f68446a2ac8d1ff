"""Profile a model on this machine: python profile_here.py model.onnx."""

import sys
from pathlib import Path

from edgeprof.fleet import Device
from edgeprof.models import read_model
from edgeprof.profiling import OpenDevice, Settings
from edgeprof.statistics import operator_rows, summarise
from edgeprof.verdict import judge

model = read_model(Path(sys.argv[1]))
with OpenDevice(Device(name="here")) as device:
    run = device.profile(model, Settings(operators=True))

summary = summarise(run.profile)
low_ms, median_ms, high_ms = (x * 1e3 for x in (summary.median_low_s, summary.median_s, summary.median_high_s))
print(f"{model.name}: {median_ms:.3f} ms ({low_ms:.3f} to {high_ms:.3f}), {judge(run.profile).level}")
for row in sorted(operator_rows(run), key=lambda row: -row.median_s)[:5]:
    print(f"  {row.median_s * 1e6:8.0f} us  {row.share:5.1%}  {row.name}")
