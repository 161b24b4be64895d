"""Pooling against ONNX Runtime and float64."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import secateur.engine.lowering.pooling  # noqa: F401  (registers the lowerings)
from engine.harness import ISAS, assembly
from engine.peers import lowered, onnx_runtime
from secateur.engine.kernels.global_pool import GlobalPool
from secateur.engine.kernels.pool import Pool

RANDOM = np.random.default_rng(5)


def windows(x, kind, kernel, strides, pads, dilations, counted):
    """One pooling, ONNX Runtime's and ours on every instruction set."""
    top, left, bottom, right = pads
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": [top, left, bottom, right],
        "dilations": dilations,
    }
    if kind == "average":
        attributes["count_include_pad"] = int(counted)
    (peer,) = onnx_runtime("MaxPool" if kind == "max" else "AveragePool", [x], attributes)
    normal = {
        "kind": kind,
        "kernel": kernel,
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
        "count_include_pad": counted,
    }
    ours = [lowered("Pool", [x], [peer.shape], normal, isa, pad=pad)[0] for isa in ISAS for pad in (0, 2)]
    return peer, ours


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 24), st.integers(1, 70)),
    kind=st.sampled_from(["max", "average"]),
    kernel=st.tuples(*[st.integers(1, 5)] * 2),
    strides=st.tuples(*[st.integers(1, 4)] * 2),
    dilations=st.tuples(*[st.integers(1, 3)] * 2),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    counted=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_any_window(shape, kind, kernel, strides, dilations, pads, counted) -> None:
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = tuple(min(pad, k - 1) for pad, k in zip(pads, (*kernel, *kernel), strict=True))
    fits = all(size + pads[i] + pads[i + 2] >= r for i, (size, r) in enumerate(zip(shape[2:], reach, strict=True)))
    assume(fits and all(pad + 1 < size for pad, size in zip(pads, (*shape[2:], *shape[2:]), strict=True)))
    x = RANDOM.standard_normal(shape).astype(np.float32) - 3
    peer, ours = windows(x, kind, kernel, strides, pads, dilations, counted)
    for y in ours:
        np.testing.assert_allclose(y, peer, rtol=2e-6, atol=0 if kind == "max" else 2e-6)


@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(3, 2, 1), (2, 2, 0), (3, 1, 1), (5, 1, 2), (13, 1, 6), (7, 7, 0)]
)
@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("side", [14, 31, 56])
def test_usual_windows(kind: str, kernel: int, stride: int, pad: int, side: int) -> None:
    x = RANDOM.standard_normal((2, 5, side, side)).astype(np.float32)
    peer, ours = windows(x, kind, (kernel,) * 2, (stride,) * 2, (pad,) * 4, (1, 1), True)
    for y in ours:
        np.testing.assert_allclose(y, peer, rtol=2e-6, atol=0 if kind == "max" else 2e-6)


@pytest.mark.parametrize("kernel", [2, 3, 5])
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("pad", [0, 1])
def test_averages_that_end_behind_counted_padding(kernel: int, stride: int, pad: int) -> None:
    """As torch's AvgPool2d with ceil_mode, which counts padding by default: what ceil_mode adds is not in the mean."""
    for height, width in ((7, 40), (8, 39), (33, 6), (5, 5)):
        x = RANDOM.standard_normal((2, 3, height, width)).astype(np.float32)
        pool = torch.nn.AvgPool2d(kernel, stride, pad, ceil_mode=True)
        peer = pool(torch.from_numpy(x)).numpy()
        outs = peer.shape[2:]
        more = [(out - 1) * stride + kernel - side - 2 * pad for out, side in zip(outs, (height, width), strict=True)]
        rows, columns = (max(end, 0) for end in more)
        pads = (pad, pad, pad + rows, pad + columns)
        how = {"kernel": (kernel,) * 2, "strides": (stride,) * 2, "pads": pads, "dilations": (1, 1)}
        how |= {"kind": "average", "count_include_pad": True, "uncounted": (rows, columns)}
        for isa in ISAS:
            (y,) = lowered("Pool", [x], [peer.shape], how, isa, pad=pad)
            np.testing.assert_allclose(y, peer, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("shape", [(1, 3, 7, 7), (3, 5, 1, 1), (2, 2, 33, 9), (1, 4, 112, 112)])
@pytest.mark.parametrize("pad", [0, 1])
def test_global(isa: str, kind: str, shape: tuple[int, ...], pad: int) -> None:
    x = RANDOM.standard_normal(shape).astype(np.float32) - 2
    (y,) = lowered("GlobalPool", [x], [(*shape[:2], 1, 1)], {"kind": kind}, isa, pad=pad)
    exact = x.astype(np.float64)
    if kind == "max":
        np.testing.assert_array_equal(y, x.max((2, 3), keepdims=True))
    else:
        # 64 (AVX2: 32) partial sums: no partial sum has more terms than this.
        terms = shape[2] * (shape[3] + pad) // 32 + 9
        bound = terms * 2**-24 * np.abs(exact).mean((2, 3), keepdims=True)
        assert (np.abs(y - exact.mean((2, 3), keepdims=True)) <= bound).all()


@pytest.mark.parametrize("isa", ISAS)
def test_nan_spreads_over_its_own_windows_only(isa: str) -> None:
    x = np.ones((1, 1, 9, 20), np.float32)
    x[0, 0, 4, 6] = np.nan
    normal = {"kernel": (3, 3), "strides": (1, 1), "pads": (1,) * 4, "dilations": (1, 1), "count_include_pad": True}
    (y,) = lowered("Pool", [x], [x.shape], {"kind": "average", **normal}, isa, pad=1)
    assert np.isnan(y[0, 0, 3:6, 5:8]).all()
    assert np.isnan(y).sum() == 9


@pytest.mark.parametrize("kernel", [Pool("max", 2, 3), Pool("sum", 0, 0), GlobalPool("max"), GlobalPool("sum")])
def test_neon_code_has_no_calls(kernel) -> None:
    assert "\tbl\t" not in assembly(kernel, "neon")
