"""Profile a model on this machine: python profile_here.py model.onnx."""

import sys

import edgeprof

profile = edgeprof.profile(sys.argv[1])

latency = profile.latency
low_ms, median_ms, high_ms = (x * 1e3 for x in (latency.median_low_s, latency.median_s, latency.median_high_s))
print(f"{profile.model}: {median_ms:.3f} ms ({low_ms:.3f} to {high_ms:.3f}), {profile.verdict.level}")
for row in sorted(profile.operators, key=lambda row: -row.median_s)[:5]:
    print(f"  {row.median_s * 1e6:8.0f} us  {row.share:5.1%}  {row.name}")
