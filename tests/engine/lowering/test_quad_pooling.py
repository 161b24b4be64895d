"""Maxima and averages of 8-bit integers, bit for bit as graph.quantized.arithmetic."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import secateur.engine.lowering.quad_pooling  # noqa: F401  (registers the lowerings)
from engine.harness import ISAS
from engine.quads import check

RANDOM = np.random.default_rng(17)
NUMBERS = {"x_scale": 0.0213, "x_zero": 130, "y_scale": 0.0213, "y_zero": 130}
OTHERS = {"x_scale": 0.0213, "x_zero": 7, "y_scale": 0.0147, "y_zero": 121}
SIGNED = {"x_scale": 0.0213, "x_zero": -7, "y_scale": 0.0317, "y_zero": 11}


def integers(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    return RANDOM.integers(0, 256, shape, np.uint8).view(dtype)


def windows(x: np.ndarray, kind: str, numbers: dict, kernel, strides, pads, dilations, counted: bool) -> None:
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    sides = (x.shape[2] + pads[0] + pads[2] - reach[0], x.shape[3] + pads[1] + pads[3] - reach[1])
    out = (*x.shape[:2], *(side // step + 1 for side, step in zip(sides, strides, strict=True)))
    how = {"kind": kind, "kernel": kernel, "strides": strides, "pads": pads, "dilations": dilations}
    for isa in ISAS:
        for pad in (0, 2):
            check("QPool", [x], (str(x.dtype), out), how | numbers | {"count_include_pad": counted}, isa, pad=pad)


@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 15), st.integers(1, 40)),
    kind=st.sampled_from(["max", "average"]),
    kernel=st.tuples(*[st.integers(1, 4)] * 2),
    strides=st.tuples(*[st.integers(1, 3)] * 2),
    dilations=st.tuples(*[st.integers(1, 2)] * 2),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    counted=st.booleans(),
)
@settings(max_examples=8, deadline=None)
def test_any_window(shape, kind, kernel, strides, dilations, pads, counted) -> None:
    pads = tuple(min(pad, k - 1) for pad, k in zip(pads, (*kernel, *kernel), strict=True))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    assume(all(size >= r for size, r in zip(shape[2:], reach, strict=True)))
    windows(integers(shape), kind, NUMBERS, kernel, strides, pads, dilations, counted)


@pytest.mark.parametrize("numbers", [NUMBERS, OTHERS], ids=["same", "others"])
@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 2, 1), (2, 2, 0), (3, 1, 1), (7, 7, 0)])
def test_usual_windows(kind: str, numbers: dict, kernel: int, stride: int, pad: int) -> None:
    how = (kind, numbers, (kernel,) * 2, (stride,) * 2, (pad,) * 4, (1, 1), False)
    windows(integers((2, 6, 14, 14)), *how)
    signed = SIGNED | ({"y_scale": SIGNED["x_scale"], "y_zero": SIGNED["x_zero"]} if numbers is NUMBERS else {})
    windows(integers((1, 4, 14, 14), "int8"), how[0], signed, *how[2:])


@pytest.mark.parametrize("numbers", [NUMBERS, OTHERS], ids=["same", "others"])
@pytest.mark.parametrize(
    ("pads", "uncounted"), [((1, 1, 2, 1), (1, 0)), ((0, 0, 1, 1), (1, 1)), ((1, 0, 1, 2), (0, 1))]
)
def test_averages_that_end_behind_counted_padding(numbers: dict, pads, uncounted) -> None:
    how = {"kind": "average", "kernel": (3, 3), "strides": (2, 2), "pads": pads, "dilations": (1, 1)}
    how |= {"count_include_pad": True, "uncounted": uncounted}
    x = integers((2, 6, 12, 14))
    out = (2, 6, (12 + pads[0] + pads[2] - 3) // 2 + 1, (14 + pads[1] + pads[3] - 3) // 2 + 1)
    for isa in ISAS:
        check("QPool", [x], ("uint8", out), how | numbers, isa, pad=1)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("shape", [(1, 3, 7, 7), (3, 5, 1, 1), (2, 8, 33, 9), (1, 6, 56, 56)])
def test_global(isa: str, kind: str, shape: tuple[int, ...]) -> None:
    for dtype, numbers in (("uint8", NUMBERS), ("uint8", OTHERS), ("int8", SIGNED)):
        for pad in (0, 1):
            check(
                "QGlobalPool",
                [integers(shape, dtype)],
                (dtype, (*shape[:2], 1, 1)),
                numbers | {"kind": kind},
                isa,
                pad=pad,
            )
