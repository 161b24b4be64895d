"""Tiny TensorFlow Lite files, written field by field: mean over the pixels, then a linear layer."""

from pathlib import Path

import numpy as np

SHAPE, CLASSES = (3, 8, 6), 4
STEP, ZERO = 0.05, 3


def weights() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((CLASSES, SHAPE[0])).astype(np.float32)


def tflite_file(path: Path, *, integers: bool = False) -> Path:
    """Images (1, height, width, channels), float32 or int8 of STEP and ZERO; logits (1, CLASSES)."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    channels, height, width = SHAPE
    model = schema.ModelT()
    model.version = 3
    model.buffers = [_buffer(schema, b""), _buffer(schema, np.array([1, 2], np.int32).tobytes()),
                     _buffer(schema, weights().tobytes())]  # fmt: skip
    kinds = schema.TensorType
    tensors = [
        _tensor(schema, "images", (1, height, width, channels), kinds.INT8 if integers else kinds.FLOAT32),
        _tensor(schema, "axes", (2,), kinds.INT32, 1),
        _tensor(schema, "means", (1, channels), kinds.FLOAT32),
        _tensor(schema, "weights", (CLASSES, channels), kinds.FLOAT32, 2),
        _tensor(schema, "logits", (1, CLASSES), kinds.FLOAT32),
        _tensor(schema, "floats", (1, height, width, channels), kinds.FLOAT32),
    ]
    if integers:
        numbers = schema.QuantizationParametersT()
        numbers.scale, numbers.zeroPoint = [STEP], [ZERO]
        tensors[0].quantization = numbers
    operators, options = schema.BuiltinOperator, schema.BuiltinOptions
    codes = (operators.MEAN, operators.FULLY_CONNECTED, operators.DEQUANTIZE)
    model.operatorCodes = [_code(schema, kind) for kind in codes]
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs = tensors, [0], [4]
    graph.operators = [
        *([_operator(schema, 2, [0], [5])] if integers else []),
        _operator(schema, 0, [5 if integers else 0, 1], [2], (options.ReducerOptions, schema.ReducerOptionsT())),
        _operator(schema, 1, [2, 3, -1], [4], (options.FullyConnectedOptions, schema.FullyConnectedOptionsT())),
    ]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _buffer(schema, data):
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8) if data else None
    return buffer


def _tensor(schema, name, shape, kind, buffer=0):
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), kind, buffer
    return tensor


def _code(schema, kind):
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = kind, min(kind, 127), 1
    return code


def _operator(schema, code, inputs, outputs, options=None):
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    if options is not None:
        operator.builtinOptionsType, operator.builtinOptions = options
    return operator
