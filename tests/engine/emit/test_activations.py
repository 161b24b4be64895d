"""Activations against float64 on a dense grid of floats, and against ONNX Runtime on special values."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from scipy import special

from engine.harness import ISAS, Memory, assembly, run
from secateur.engine.emit.activations import ERRORS, activate, symbol
from secateur.engine.emit.builder import KernelModule
from secateur.engine.program import Address, Buffer, Step
from secateur.graph.ir import Activation

SIXTH = np.float64(np.float32(1 / 6))
EXACT: dict[str, tuple[Activation, Callable[[np.ndarray], np.ndarray]]] = {
    "relu": (Activation("relu"), lambda x: np.maximum(x, 0)),
    "clip": (Activation("clip", -1.5, 6.0), lambda x: np.clip(x, -1.5, 6)),
    "leaky_relu": (Activation("leaky_relu", 0.125), lambda x: np.where(x >= 0, x, 0.125 * x)),
    "hard_sigmoid": (Activation("hard_sigmoid", 0.25, 0.5), lambda x: np.clip(0.25 * x + 0.5, 0, 1)),
    "hard_swish": (Activation("hard_swish"), lambda x: x * np.clip(SIXTH * x + 0.5, 0, 1)),
    "sigmoid": (Activation("sigmoid"), special.expit),
    "silu": (Activation("silu"), lambda x: x * special.expit(x)),
    "tanh": (Activation("tanh"), np.tanh),
    "elu": (Activation("elu", 0.75), lambda x: np.where(x > 0, x, 0.75 * np.expm1(np.minimum(x, 0)))),
    "exp": (Activation("exp"), np.exp),
    "gelu": (Activation("gelu"), lambda x: 0.5 * x * special.erfc(-x / np.sqrt(2))),
    "gelu_tanh": (Activation("gelu_tanh"), lambda x: x * special.expit(np.sqrt(8 / np.pi) * (x + 0.044715 * x**3))),
    "softplus": (Activation("softplus"), lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))),
    "mish": (Activation("mish"), lambda x: x * np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))),
    "erf": (Activation("erf"), special.erf),
    "log": (Activation("log"), np.log),
    "sqrt": (Activation("sqrt"), np.sqrt),
    "abs": (Activation("abs"), np.abs),
    "neg": (Activation("neg"), np.negative),
    "reciprocal": (Activation("reciprocal"), lambda x: 1 / x),
}


@dataclass(frozen=True)
class ActivateArray:
    """Units are vectors of an array."""

    activation: Activation

    @property
    def name(self) -> str:
        return f"test_{symbol(self.activation)}"

    @property
    def fields(self) -> tuple[str, ...]:
        return ("x",)

    def emit(self, module: KernelModule) -> None:
        with module.kernel(self.name, self.fields) as body:
            x = body.pointer("x")
            with body.loop(body.begin, body.end) as i:
                at = body.b.mul(i, body.i64(module.lanes))
                body.store(activate(body, body.load(x, at), self.activation), x, at)


def applied(activation: Activation, x: np.ndarray, isa: str) -> np.ndarray:
    padded = -(-x.size // 16) * 16
    buffer, memory = Buffer("x", padded), Memory()
    memory.array(buffer)[: x.size] = x
    lanes = {"avx512": 16, "avx2": 8}[isa]
    run([Step("test", ActivateArray(activation), {"x": Address(buffer)}, padded // lanes)], memory, isa)
    return memory.array(buffer)[: x.size].copy()


def every_magnitude() -> np.ndarray:
    """300 000 floats: evenly over all bit patterns, and densely where the functions bend."""
    bits = np.arange(0, 0x7F800000, 15013, dtype=np.uint32)
    x = np.concatenate([bits.view(np.float32), np.linspace(0, 12, 40000, dtype=np.float32)])
    x = np.concatenate([x, np.linspace(80, 105, 10000, dtype=np.float32)])
    return np.concatenate([x, -x])


def ulps(y: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distance in units in the last place of the exact result; beyond float32's range infinity is exact."""
    largest = np.float64(np.finfo(np.float32).max)
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = exact.astype(np.float32)
        spacing = np.spacing(np.minimum(np.abs(exact), largest).astype(np.float32)).astype(np.float64)
        distance = np.abs(y.astype(np.float64) - exact) / spacing
    return np.where((y == rounded) | (np.isnan(y) & np.isnan(rounded)), 0, distance)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", EXACT)
def test_error_is_within_the_stated_bound(kind: str, isa: str) -> None:
    activation, exact = EXACT[kind]
    x = every_magnitude()
    with np.errstate(all="ignore"):
        wanted = exact(x.astype(np.float64))
    errors = ulps(applied(activation, x, isa), wanted)
    if kind in ("silu", "mish", "gelu", "gelu_tanh"):  # x times a denormal number
        errors = np.where(np.abs(wanted) < 1e-36, errors * min(1, ERRORS[kind] / 60), errors)
    assert errors.max() <= ERRORS[kind], f"{errors.max()} ulp at {x[errors.argmax()]!r}"


def test_every_kind_is_tested() -> None:
    assert set(EXACT) == set(ERRORS)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", EXACT)
def test_nan_stays(kind: str, isa: str) -> None:
    assert np.isnan(applied(EXACT[kind][0], np.full(16, np.nan, np.float32), isa)).all()


@pytest.mark.parametrize(
    ("kind", "operator", "attributes"),
    [
        ("relu", "Relu", {}),
        ("clip", "Clip", {"inputs": (-1.5, 6.0)}),
        ("leaky_relu", "LeakyRelu", {"alpha": 0.125}),
        ("hard_sigmoid", "HardSigmoid", {"alpha": 0.25, "beta": 0.5}),
        ("hard_swish", "HardSwish", {}),
        ("sigmoid", "Sigmoid", {}),
        ("tanh", "Tanh", {}),
        ("elu", "Elu", {"alpha": 0.75}),
        ("exp", "Exp", {}),
        ("log", "Log", {}),
        ("erf", "Erf", {}),
        ("gelu", "Gelu", {}),
        ("gelu_tanh", "Gelu", {"approximate": "tanh"}),
        ("softplus", "Softplus", {}),
        ("mish", "Mish", {}),
        ("sqrt", "Sqrt", {}),
        ("abs", "Abs", {}),
        ("neg", "Neg", {}),
        ("reciprocal", "Reciprocal", {}),
    ],
)
def test_special_values_as_onnx_runtime(kind: str, operator: str, attributes: dict[str, object]) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38, 1, -1, 7, -7], np.float32)
    peer = reference(operator, x, attributes)
    for isa in ISAS:
        y = applied(EXACT[kind][0], x, isa)
        assert (np.isnan(y) == np.isnan(peer)).all(), (x, y, peer)
        np.testing.assert_allclose(y, peer, rtol=2e-6, atol=2e-7)


def reference(operator: str, x: np.ndarray, attributes: dict[str, object]) -> np.ndarray:
    """What ONNX Runtime computes."""
    attributes = dict(attributes)
    more = attributes.pop("inputs", ())
    constants = [helper.make_tensor(f"c{i}", TensorProto.FLOAT, [], [value]) for i, value in enumerate(more)]
    names = ["x", *(constant.name for constant in constants)]
    node = helper.make_node(operator, names, ["y"], **attributes)
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [x.size]) for name in "xy"]
    graph = helper.make_graph([node], "g", value[:1], value[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("kind", EXACT)
def test_neon_code_has_no_calls(kind: str) -> None:
    assert "\tbl\t" not in assembly(ActivateArray(EXACT[kind][0]), "neon")
