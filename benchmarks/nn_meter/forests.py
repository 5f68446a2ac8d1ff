"""Runs in nn-Meter's environment: trains its forests on measured kernels, predicts ONNX files with its own code.

python forests.py QUESTION.json      prints one JSON object
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

RULES = {
    "MON": {"obey": 0},
    "FN": {"obey": True},
    **{
        f"BF_{pair}": {"obey": True}
        for pair in (
            "conv_bn",
            "conv_relu",
            "dwconv_bn",
            "dwconv_relu",
            "bn_relu",
            "add_relu",
            "fc_relu",
            "conv_clip",
            "dwconv_clip",
        )
    },
}


def main() -> None:
    warnings.simplefilter("ignore")
    question = json.loads(Path(sys.argv[1]).read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        answer = answered(question)
    print(json.dumps(answer))


def answered(question: dict) -> dict:
    from nn_meter.predictor.nn_meter_predictor import nnMeterPredictor

    with tempfile.NamedTemporaryFile("w", suffix=".json") as rules:
        json.dump(RULES, rules)
        rules.flush()
        predictor = nnMeterPredictor(forests(question["samples"]), rules.name)
    nets, seconds = {}, {}
    for name, path in question["nets"].items():
        begin = time.perf_counter()
        try:
            for _ in range(question["repeats"]):
                milliseconds = float(predictor.predict(path, "onnx"))
            seconds[name] = (time.perf_counter() - begin) / question["repeats"]
            unknown = sum(
                not is_known(kernel["op"], predictor.kernel_predictors) for kernel in predictor.kd.get_kernels()
            )
            nets[name] = {"latency_s": milliseconds / 1e3, "n_unknown": unknown}
        except Exception as error:  # its code fails on many graphs, in many ways: a net that fails is told
            nets[name] = {"failure": f"{type(error).__name__}: {error}"[:200]}
    return {"nets": nets, "seconds": seconds}


def forests(samples: dict) -> dict:
    from nn_meter.builder.kernel_predictor_builder.predictor_builder.predictor_lib import init_predictor
    from nn_meter.predictor.prediction.extract_feature import get_predict_features
    from nn_meter.predictor.prediction.utils import get_kernel_name

    made = {}
    for kind, items in samples.items():
        rows, latencies = [], []
        for item in items:
            found = get_predict_features([item])
            if found:
                rows.append(found[0][kind])
                latencies.append(item["latency_ms"])
        if len(rows) < 10:
            continue
        forest = init_predictor(get_kernel_name(kind), "tflite_cpu")
        if forest.max_features == "auto":  # no longer a word of scikit-learn; it meant all of them
            forest.set_params(max_features=1.0)
        forest.set_params(
            max_features=min(forest.max_features, len(rows[0]))
            if isinstance(forest.max_features, int)
            else forest.max_features
        )
        made[get_kernel_name(kind)] = forest.fit(rows, latencies)
    return made


def is_known(kind: str, made: dict) -> bool:
    from nn_meter.predictor.prediction.predict_by_kernel import merge_conv_kernels
    from nn_meter.predictor.prediction.utils import get_kernel_name

    return get_kernel_name(merge_conv_kernels(kind)) in made


if __name__ == "__main__":
    main()
