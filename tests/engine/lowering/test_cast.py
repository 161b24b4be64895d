"""Cast nodes: any layout, refusals."""

import numpy as np
import pytest
from onnx import TensorProto

import secateur.engine.lowering.cast  # noqa: F401  (registers the lowering)
from engine.harness import ISAS
from engine.peers import lowered
from secateur.engine.lowering.context import lowerings
from secateur.graph.ir import Graph, Node, TensorType

RANDOM = np.random.default_rng(31)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", [(5,), (2, 3, 6, 7), (1, 1, 40, 40)])
def test_there_and_back(isa: str, shape: tuple[int, ...]) -> None:
    x = (100 * RANDOM.standard_normal(shape)).astype(np.float32)
    (whole,) = lowered("Cast", [x], [shape], {"to": TensorProto.INT64}, isa, pad=1, dtypes=["int64"])
    np.testing.assert_array_equal(whole, x.astype(np.int64))
    (back,) = lowered("Cast", [whole], [shape], {"to": TensorProto.FLOAT}, isa, pad=1)
    np.testing.assert_array_equal(back, np.trunc(x))


def test_other_types_are_refused() -> None:
    node = Node("y", "Cast", ("x",), ("y",), {"to": TensorProto.FLOAT16})
    types = {"x": TensorType((3,), "float32"), "y": TensorType((3,), "float16")}
    reason = lowerings["Cast"].refuses(node, Graph((node,), ("x",), ("y",), types, {}, 20))
    assert reason is not None
    assert "float16" in reason
