"""TFLite files made from nothing but their schema: long ones, and ones with operators that no runtime has."""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import tflite

KINDS = (tflite.BuiltinOperator.ABS, tflite.BuiltinOperator.LOGISTIC)


def write_tflite_chain(path: Path, n_nodes: int, custom: str | None = None) -> Path:
    """ABS and LOGISTIC in turn, over tensors of four floats; every second one is a custom operator if one is named."""
    builder = flatbuffers.Builder(1 << 16)

    def vector(offsets: list[int]) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    def numbers(values: list[int]) -> int:
        builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            builder.PrependInt32(value)
        return int(builder.EndVector())

    tensors = []
    for k in range(n_nodes + 1):
        name, shape = builder.CreateString(f"t{k}"), numbers([1, 4])
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, shape)
        tflite.TensorAddName(builder, name)
        tflite.TensorAddBuffer(builder, 0)
        tensors.append(tflite.TensorEnd(builder))
    operators = []
    for k in range(n_nodes):
        inputs, outputs = numbers([k]), numbers([k + 1])
        tflite.OperatorStart(builder)
        tflite.OperatorAddOpcodeIndex(builder, k % len(KINDS))
        tflite.OperatorAddInputs(builder, inputs)
        tflite.OperatorAddOutputs(builder, outputs)
        operators.append(tflite.OperatorEnd(builder))
    codes = []
    custom_code = builder.CreateString(custom) if custom is not None else None
    for kind in KINDS if custom is None else (KINDS[0], tflite.BuiltinOperator.CUSTOM):
        tflite.OperatorCodeStart(builder)
        if custom_code is not None and kind == tflite.BuiltinOperator.CUSTOM:
            tflite.OperatorCodeAddCustomCode(builder, custom_code)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, kind)
        tflite.OperatorCodeAddBuiltinCode(builder, kind)
        tflite.OperatorCodeAddVersion(builder, 1)
        codes.append(tflite.OperatorCodeEnd(builder))
    tflite.BufferStart(builder)
    buffers = vector([tflite.BufferEnd(builder)])
    parts = vector(tensors), vector(operators), numbers([0]), numbers([n_nodes])
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, parts[0])
    tflite.SubGraphAddOperators(builder, parts[1])
    tflite.SubGraphAddInputs(builder, parts[2])
    tflite.SubGraphAddOutputs(builder, parts[3])
    subgraphs = vector([tflite.SubGraphEnd(builder)])
    all_codes = vector(codes)
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddOperatorCodes(builder, all_codes)
    tflite.ModelAddSubgraphs(builder, subgraphs)
    tflite.ModelAddBuffers(builder, buffers)
    builder.Finish(tflite.ModelEnd(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
