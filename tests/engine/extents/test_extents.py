"""Steps with one table or number that leads elsewhere are refused; those of real networks pass.

That extents hold all that kernels write is checked wherever tests run kernels (engine.harness).
"""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from engine.harness import TARGETS
from engine.networks import classifier, model, value, zeroed
from secateur.engine import kernels
from secateur.engine.choice import Choice
from secateur.engine.compile import lower
from secateur.engine.extents import Common, Extent, Fault, described, extents
from secateur.engine.kernels.conv_form import AHEAD
from secateur.engine.kernels.linear import LinearKernel
from secateur.engine.kernels.resize import Resize
from secateur.engine.lowering.context import Decision
from secateur.engine.program import Program, Step
from secateur.engine.session import compile_onnx
from secateur.engine.validate import check_step, validate
from secateur.errors import EngineError
from secateur.graph.load import load_graph
from secateur.graph.passes import simplify

TARGET = TARGETS["avx512"]
NODE = helper.make_node
MAP = [1, 8, 10, 12]

CHOICES = {
    "dense": Choice("dense", "direct", 4, 4),
    "dense in blocks": Choice("dense", "direct", 4, 4, block=24),
    "gemm": Choice("block", "gemm", 4, 4),
    "pack": Choice("dense", "pack", 4, 4, block=24),
    "panel": Choice("panel", "direct", 4, 4),
    "rows": Choice("rows", "direct", 4, 4, block=40),
}


BYTES = {"bytes": Choice("bytes", "direct", 2, 4), "bytes packed": Choice("bytes", "pack", 4, 4)}
BF16 = {"bf16": CHOICES["dense in blocks"], "bf16 rows": CHOICES["rows"]}


def program_of(proto: object, choice: Choice = CHOICES["dense"], *, bf16: bool = False) -> Program:
    graph = simplify(load_graph(proto, batch=1))
    return lower(graph, TARGET, 2, lambda *_: Decision(choice), bf16=bf16)[0]


def single(node: object, shape: list[int], out: list[int], constants: dict[str, np.ndarray] | None = None) -> object:
    return model([node], [value("x", shape)], [value("y", out)], constants or {})


def others() -> Iterator[tuple[str, object]]:
    """One network for every kernel that is no convolution."""
    some = np.random.default_rng(0).standard_normal
    yield "depthwise", single(
        NODE("Conv", ["x", "w"], ["y"], group=8, pads=[1, 1, 1, 1]), MAP, MAP,
        {"w": some((8, 1, 3, 3)).astype(np.float32)},
    )  # fmt: skip
    yield "strided", single(
        NODE("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1]), MAP, [1, 8, 5, 6],
        {"w": some((8, 8, 3, 3)).astype(np.float32)},
    )  # fmt: skip
    yield "transposed", single(
        NODE("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]), MAP, [1, 4, 20, 24],
        {"w": some((8, 4, 2, 2)).astype(np.float32)},
    )  # fmt: skip
    yield "max pool", single(NODE("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2]), MAP, [1, 8, 4, 5])
    yield "average pool", single(NODE("AveragePool", ["x"], ["y"], kernel_shape=[2, 2]), MAP, [1, 8, 9, 11])
    yield "global max", single(NODE("GlobalMaxPool", ["x"], ["y"]), MAP, [1, 8, 1, 1])
    for mode, name in (("nearest", "doubled"), ("linear", "linear")):
        yield name, single(
            NODE("Resize", ["x", "", "scales"], ["y"], mode=mode, nearest_mode="floor",
                 coordinate_transformation_mode="asymmetric"),
            MAP, [1, 8, 20, 24], {"scales": np.array([1, 1, 2, 2], np.float32)},
        )  # fmt: skip
    yield "layer norm", single(
        NODE("LayerNormalization", ["x", "s", "b"], ["y"]), [5, 40], [5, 40],
        {"s": np.ones(40, np.float32), "b": np.ones(40, np.float32)},
    )  # fmt: skip
    yield "softmax", single(NODE("Softmax", ["x"], ["y"], axis=-1), [5, 40], [5, 40])
    yield "softmax across", single(NODE("Softmax", ["x"], ["y"], axis=1), [3, 5, 40], [3, 5, 40])
    yield "mean", single(NODE("ReduceMean", ["x", "a"], ["y"]), [5, 40], [5, 1], {"a": np.array([1])})
    yield "mean across", single(NODE("ReduceMean", ["x", "a"], ["y"]), [3, 5, 40], [3, 1, 40], {"a": np.array([1])})
    yield "transpose", single(NODE("Transpose", ["x"], ["y"], perm=[0, 2, 1]), [3, 20, 40], [3, 40, 20])
    yield "slice", single(
        NODE("Slice", ["x", "b", "e", "a", "s"], ["y"]), [6, 40], [6, 20],
        {"b": np.array([0]), "e": np.array([40]), "a": np.array([1]), "s": np.array([2])},
    )  # fmt: skip
    yield "sum", single(NODE("Add", ["x", "b"], ["y"]), MAP, MAP, {"b": np.ones((1, 8, 1, 1), np.float32)})
    yield "linear", single(NODE("Gemm", ["x", "w"], ["y"], transB=1), [3, 40], [3, 24], {"w": zeroed((24, 40), 0)})
    yield (
        "sparse linear",
        single(NODE("Gemm", ["x", "w"], ["y"], transB=1), [1, 400], [1, 24], {"w": zeroed((24, 400), 0.95)}),
    )
    yield "matmul", model(
        [NODE("MatMul", ["x", "z"], ["y"])], [value("x", [3, 20, 30]), value("z", [3, 30, 40])],
        [value("y", [3, 20, 40])], {},
    )  # fmt: skip
    yield "cast", model(
        [NODE("Cast", ["x"], ["y"], to=TensorProto.FLOAT)], [value("x", [100], TensorProto.INT64)],
        [value("y", [100])], {},
    )  # fmt: skip


class Integers:
    """A network whose values are rounded to 8 bits, each by itself."""

    def __init__(self) -> None:
        self.nodes: list[object] = []
        self.constants = {"scale": np.float32(0.05), "zero": np.uint8(7)}

    def rounded(self, operator: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(NODE(operator, inputs, [f"{name} float"], f"{operator} {name}", **attributes))
        return self.restored(self.integers(f"{name} float"))

    def integers(self, x: str) -> str:
        self.nodes.append(NODE("QuantizeLinear", [x, "scale", "zero"], [f"{x} q"]))
        return f"{x} q"

    def restored(self, q: str) -> str:
        self.nodes.append(NODE("DequantizeLinear", [q, "scale", "zero"], [f"{q} d"]))
        return f"{q} d"

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.constants)}"
        weight = np.random.default_rng(0).integers(-127, 128, shape).astype(np.int8)
        self.constants |= {name: weight, f"{name} scale": np.float32(0.01), f"{name} zero": np.int8(0)}
        self.nodes.append(NODE("DequantizeLinear", [name, f"{name} scale", f"{name} zero"], [f"{name} d"]))
        return f"{name} d"

    def proto(self, y: str, shape: list[int], out: list[int], given: int, made: int) -> object:
        self.nodes.append(NODE("Identity", [y], ["y"]))
        return model(self.nodes, [value("x", shape, given)], [value("y", out, made)], self.constants)


def of_integers() -> Iterator[tuple[str, object]]:
    """Networks for the kernels on 8-bit integers."""
    real, byte = TensorProto.FLOAT, TensorProto.UINT8
    net = Integers()
    x = net.rounded("Conv", net.restored(net.integers("x")), net.weight(8, 1, 3, 3), group=8, pads=[1] * 4)
    yield "integer depthwise", net.proto(x, MAP, MAP, real, real)
    net = Integers()
    x = net.rounded("Conv", net.restored("x"), net.weight(10, 8, 3, 3), pads=[1] * 4)
    yield "integer convolution", net.proto(net.integers(x), MAP, [1, 10, 10, 12], byte, byte)
    net = Integers()
    x = net.restored(net.integers("x"))
    x = net.rounded("Mul", net.rounded("Sigmoid", x), net.rounded("GlobalAveragePool", x))
    yield "integer gates", net.proto(x, MAP, MAP, real, real)
    net = Integers()
    x = net.rounded("Gemm", net.restored(net.integers("x")), net.weight(24, 40), transB=1)
    yield "integer linear", net.proto(x, [3, 40], [3, 24], real, real)
    net = Integers()
    net.constants |= {"b": np.array([3]), "e": np.array([9]), "a": np.array([1])}
    net.nodes.append(NODE("MaxPool", ["x"], ["pool"], kernel_shape=[3, 3], pads=[1] * 4))
    net.nodes.append(NODE("Slice", ["pool", "b", "e", "a"], ["part"]))
    x = net.restored("part")
    yield "channels of integers", net.proto(net.integers(x), [1, 12, 10, 12], [1, 6, 10, 12], byte, byte)
    net = Integers()
    net.nodes.append(NODE("Concat", ["x", "x"], ["both"], axis=2))
    yield "integers alone", net.proto("both", [5, 6, 7], [5, 6, 14], byte, byte)


@cache
def programs() -> dict[str, Program]:
    found = {name: program_of(classifier(), choice) for name, choice in CHOICES.items()}
    found |= {name: program_of(classifier(), choice, bf16=True) for name, choice in BF16.items()}
    integers = dict(of_integers())
    found |= {name: program_of(integers["integer convolution"], choice) for name, choice in BYTES.items()}
    return found | {name: program_of(proto) for name, proto in (*others(), *integers.items())}


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_real_programs_pass(lanes: int) -> None:
    if lanes == TARGET.lanes:
        for program in programs().values():
            validate(program, lanes)
        return
    target = next(target for target in TARGETS.values() if target.lanes == lanes)
    for choice in CHOICES.values():
        graph = simplify(load_graph(classifier(), batch=1))
        validate(lower(graph, target, 2, lambda *_: Decision(choice))[0], lanes)  # noqa: B023


def test_every_kernel_is_described() -> None:
    found: set[type] = set()
    for module in pkgutil.iter_modules(kernels.__path__, kernels.__name__ + "."):
        members = vars(importlib.import_module(module.name)).values()
        found |= {each for each in members if inspect.isclass(each) and each.__module__ == module.name}
    wanted = {each for each in found if callable(getattr(each, "emit", None))}
    assert {each.__name__ for each in wanted - set(described())} == set()


def test_the_networks_here_have_every_kernel() -> None:
    used = {type(step.kernel) for program in programs().values() for step in program.steps}
    missing = {kind.__name__ for kind in described() if kind not in used}
    assert missing <= {"PickPixels"}


def planted(step: Step, field: str, change: object) -> Step:
    return replace(step, arguments={**step.arguments, field: change})


# What decides nothing about addresses, or about fewer of them when it grows.
NO_PLACES = frozenset(["masks", "first", "last", "part", "parts", "blocks", "pack_most"])


def is_read(step: Step, field: str) -> bool:
    """Some kernels have tables that only others of their class read."""
    kernel = step.kernel
    dense = isinstance(kernel, LinearKernel) and not kernel.block and field in ("indices", "starts")
    return (
        field not in NO_PLACES
        and not dense
        and not (isinstance(kernel, Resize) and kernel.doubled and field == "columns")
    )


def touched(step: Step) -> list[Extent]:
    return extents(step, TARGET.lanes, Common([step]))


def checked(step: Step, *others: Step) -> None:
    check_step(step, "step", TARGET.lanes, Common([step, *others]))


def refused(name: str, step: Step, field: str, change: object) -> bool:
    """Is the program refused in which this is an argument of every step that had the same one there."""
    old = step.arguments[field]
    steps = [
        planted(each, field, change) if each.arguments.get(field) is old or each is step else each
        for each in programs()[name].steps
    ]
    common = Common(steps)
    try:
        for each in steps:
            check_step(each, "step", TARGET.lanes, common)
    except EngineError:
        return True
    return False


def arguments(name: str, kind: type) -> Iterator[tuple[str, Step, str, Any]]:
    """Every argument of a type that decides about addresses, with a name for it."""
    for index, step in enumerate(programs()[name].steps):
        for field, given in step.arguments.items():
            if type(given) is kind and is_read(step, field):
                yield f"{step.kernel.name} in step {index}: {field}", step, field, given


def tables(name: str) -> Iterator[tuple[str, Step, str, np.ndarray]]:
    return (found for found in arguments(name, np.ndarray) if found[3].dtype.kind in "iu")


def wrong(array: np.ndarray, field: str) -> Iterator[np.ndarray]:
    """The table with one number far too large, or far too small."""
    largest = min(np.iinfo(array.dtype).max, 1 << 50)
    records = len(array) - (AHEAD if field == "deltas" else 0)
    # The first offsets of packed tiles belong to the first block; rows that only pad are negative.
    places = (-1,) if field == "pack_offsets" else (0, records // 2)
    for number in (largest, -largest) if array.dtype.kind == "i" and field != "rows" else (largest,):
        for place in places:
            broken = array.copy()
            broken.reshape(len(array), -1)[place, 0] = number
            yield broken


NAMES = (*CHOICES, *BF16, *BYTES, *(name for name, _ in (*others(), *of_integers())))
# Whole numbers that are computed with.
NUMBERS = ("weights", "bias", "table", "bits")


@pytest.mark.parametrize("name", NAMES)
def test_a_number_in_a_table_that_leads_elsewhere(name: str) -> None:
    missed = [
        what
        for what, step, field, array in tables(name)
        if field not in NUMBERS
        for bad in wrong(array, field)
        if not refused(name, step, field, bad)
    ]
    assert missed == []


@pytest.mark.parametrize("name", NAMES)
def test_a_table_of_another_type(name: str) -> None:
    assert [
        what for what, step, field, array in tables(name) if not refused(name, step, field, array.astype(float))
    ] == []


# Tables whose last entry another step reads, or that is padding.
WITH_MORE = ("pack_offsets", "tiles", "panels", "deltas", "indices")


@pytest.mark.parametrize("name", NAMES)
def test_a_table_that_is_too_short(name: str) -> None:
    missed = [
        what
        for what, step, field, array in tables(name)
        if field not in WITH_MORE and not refused(name, step, field, array[:-1].copy())
    ]
    assert missed == []


@pytest.mark.parametrize("name", NAMES)
def test_a_number_that_leads_elsewhere(name: str) -> None:
    missed = [
        what
        for what, step, field, number in arguments(name, int)
        if number > 1 and matters(step, field, number) and not refused(name, step, field, 1 << 40)
    ]
    assert missed == []


def matters(step: Step, field: str, number: int) -> bool:
    """Do the kernel's addresses depend on a number."""
    try:
        return touched(planted(step, field, number + 1)) != touched(step)
    except Fault:
        return True


def test_an_array_of_the_caller_is_not_read_past_its_end() -> None:
    """Multiplying maps by a dense input of one map's shape once read whole vectors of it."""
    node = NODE("Mul", ["x", "z"], ["y"])
    proto = model([node], [value("x", [2, 3, 4, 5]), value("z", [4, 5])], [value("y", [2, 3, 4, 5])], {})
    validate(program_of(proto), TARGET.lanes)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32), "z": np.ones((4, 5), "f4")}
    np.testing.assert_array_equal(compile_onnx(proto, threads=1).run(feeds)["y"], feeds["x"])


def test_scratch_that_is_too_small() -> None:
    for name in ("pack", "max pool", "linear"):
        step = next((step for step in programs()[name].steps if step.scratch), None)
        if step is not None:
            with pytest.raises(EngineError, match="scratch memory has bytes 0 to"):
                checked(replace(step, scratch=step.scratch // 2))


def test_a_missing_operand() -> None:
    step = next(step for step in programs()["sum"].steps if "x1" in step.arguments)
    with pytest.raises(EngineError, match="what is no address"):
        checked(planted(step, "x1", 0))
