"""Resize against ONNX Runtime in every mode."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.harness import ISAS, assembly
from engine.peers import lowered, onnx_runtime
from secateur.engine.kernels.resize import Resize
from secateur.engine.lowering.resize import COORDINATES, NEAREST, axis_taps

RANDOM = np.random.default_rng(23)


def check(x: np.ndarray, size: tuple[int, ...], by: str, isa: str, pad: int, **options: object) -> None:
    """One Resize, ONNX Runtime's and ours. `by` scales: the output is as large as the floor of the scaled input."""
    spatial = x.shape[2:]
    scales = [float(np.float32(out / old)) for out, old in zip(size, spatial, strict=True)]
    roi = np.zeros(0, np.float32)
    if by == "sizes":
        inputs = [x, None, None, np.array([*x.shape[:2], *size], np.int64)]
    else:
        scales = [float(np.float32(scale + 0.03)) for scale in scales]
        inputs = [x, roi, np.array([1, 1, *scales], np.float32)]
    (peer,) = onnx_runtime("Resize", inputs, {**options}, opset=18)
    if peer.shape == x.shape:
        return  # ONNX Runtime copies without regard to the scales, and so do the passes
    attributes = {
        "mode": "nearest",
        "coordinate": "half_pixel",
        "nearest_mode": "round_prefer_floor",
        "antialias": 0,
        "cubic_coeff_a": -0.75,
        "exclude_outside": 0,
        "scales": (1.0, 1.0, *scales),
        "sizes": peer.shape,
        "by": by,
    }
    names = {"coordinate_transformation_mode": "coordinate"}
    attributes |= {names.get(key, key): value for key, value in options.items()}
    (y,) = lowered("Resize", [x], [peer.shape], attributes, isa, pad=pad)
    if attributes["mode"] == "nearest":
        np.testing.assert_array_equal(y, peer)
    else:
        # Weights that are divided by the sum of those inside the map magnify the rounding of coordinates.
        atol = 2e-4 if attributes["exclude_outside"] else 2e-5
        np.testing.assert_allclose(y, peer, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("isa", ISAS)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 12), st.integers(1, 40)),
    size=st.tuples(st.integers(1, 30), st.integers(1, 50)),
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    coordinate=st.sampled_from(COORDINATES),
    nearest=st.sampled_from(NEAREST),
    by=st.sampled_from(["sizes", "scales"]),
    pad=st.integers(0, 2),
    outside=st.integers(0, 1),
)
@settings(max_examples=150, deadline=None)
def test_every_mode(isa: str, shape, size, mode, coordinate, nearest, by, pad, outside) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    options = {"mode": mode, "coordinate_transformation_mode": coordinate, "nearest_mode": nearest}
    if mode == "cubic":
        options["exclude_outside"] = outside
    check(x, size, by, isa, pad, **options)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("side", [1, 7, 20, 33])
def test_whole_factors(isa: str, factor: int, mode: str, side: int) -> None:
    x = RANDOM.standard_normal((2, 3, side, side)).astype(np.float32)
    coordinate = {"nearest": "asymmetric", "linear": "half_pixel"}[mode]
    options = {"mode": mode, "coordinate_transformation_mode": coordinate, "nearest_mode": "floor"}
    for pad in (0, 1):
        check(x, (side * factor,) * 2, "sizes", isa, pad, **options)


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil"])
def test_positions_next_to_ties(nearest: str) -> None:
    """ONNX Runtime takes positions within a millionth of a half for ties."""
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 1, 16)
    for off in (-1e-5, -3e-6, -7e-7, -1e-7, 0, 1e-7, 7e-7, 3e-6, 1e-5):
        scale = float(np.float32(5 / (2.5 + off)))
        inputs = [x, np.zeros(0, np.float32), np.array([1, 1, 1, scale], np.float32)]
        options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": nearest}
        (peer,) = onnx_runtime("Resize", inputs, options, opset=18)
        how = {"mode": "nearest", "coordinate": "asymmetric", "nearest_mode": nearest}
        np.testing.assert_array_equal(axis_taps(how, 16, peer.size, scale)[0][0], peer.reshape(-1))


@pytest.mark.parametrize("isa", ISAS)
def test_one_axis(isa: str) -> None:
    x = RANDOM.standard_normal((2, 3, 19)).astype(np.float32)
    check(x, (40,), "sizes", isa, 0, mode="nearest")


@pytest.mark.parametrize("kernel", [Resize(1), Resize(1, True), Resize(2), Resize(4)])
def test_neon_code_has_no_calls(kernel) -> None:
    assert "\tbl\t" not in assembly(kernel, "neon")
