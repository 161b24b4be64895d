"""Inputs and outputs of programs: the caller's arrays."""

import numpy as np
import pytest

from engine.harness import ISAS, Memory, empty_context, run
from secateur.engine.kernels.convert import TYPES
from secateur.engine.layout import Flat
from secateur.engine.lowering.context import Tensor
from secateur.engine.lowering.ports import export_output, import_input
from secateur.engine.lowering.relayout import convert
from secateur.engine.program import Buffer, Port
from secateur.graph.ir import Graph, TensorType

RANDOM = np.random.default_rng(3)


def port(name: str, shape: tuple[int, ...], dtype: str = "float32") -> Port:
    size = int(np.prod(shape))
    return Port(name, shape, dtype, Buffer(f"{name} array", size, external=name, item=np.dtype(dtype).itemsize))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", [(2, 3, 9, 11), (1, 5), (2, 3, 1, 1), (4,), (1, 1, 1, 40)])
def test_maps_go_through_planes_everything_else_stays(isa: str, shape: tuple[int, ...]) -> None:
    types = {name: TensorType(shape, "float32") for name in "xy"}
    graph = Graph((), ("x",), ("y",), types, {}, 20)
    context, memory = empty_context(isa, graph, {(9, 11): 2}), Memory()
    given, asked = port("x", shape), port("y", shape)
    import_input(context, given)
    context.places["y"] = context.places["x"]
    export_output(context, asked)
    x = RANDOM.standard_normal(shape).astype(np.float32)
    memory.array(given.buffer)[:] = x.reshape(-1)
    run(context.steps, memory, isa, 2)
    np.testing.assert_array_equal(memory.array(asked.buffer), x.reshape(-1))


VALUES = {
    "float32": np.array([0, -0.0, 1.9, -1.9, 1e-40, 2**24, -7] * 7, np.float32),
    "int64": np.array([0, -1, 2**31 - 1, 5, -(2**31), 77, 3] * 7, np.int64),
    "int32": np.array([0, -1, 2**31 - 1, 5, -(2**31), 77, 3] * 7, np.int32),
    "bool": np.array([0, 1, 1, 0, 1, 0, 0] * 7, np.uint8),
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("to", TYPES)
@pytest.mark.parametrize("from_", TYPES)
def test_conversion_as_numpy(isa: str, from_: str, to: str) -> None:
    context, memory = empty_context(isa), Memory()
    x = VALUES[from_].view(bool) if from_ == "bool" else VALUES[from_]
    item = np.dtype(to).itemsize
    target = Tensor(Flat(x.shape), Buffer("y", x.size, item=item))
    convert(context, Tensor(Flat(x.shape), constant=x), target, from_, to)
    run(context.steps, memory, isa)
    np.testing.assert_array_equal(memory.array(target.buffer).view(to), x.astype(to))
