"""Operators that move 8-bit integers, against numpy."""

import numpy as np
import pytest

import secateur.engine.lowering.families  # noqa: F401  (registers the lowerings)
from engine.harness import ISAS
from engine.quads import check, lowered

RANDOM = np.random.default_rng(23)
ISA = ISAS[:1]


def integers(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return RANDOM.integers(0, 256, shape, np.uint8).view(dtype)


def moved(operator: str, inputs, expected, attributes, constants=()) -> None:
    for isa in ISA:
        for pad in (0, 2):
            outputs = [(str(y.dtype), y.shape) for y in expected]
            ours = lowered(operator, inputs, outputs, attributes, isa, constants=constants, pad=pad)
            for one, other in zip(ours, expected, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("channels", [(4, 8), (3, 6, 2), (4, 3), (5, 4, 1, 7)])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_concat_of_channels(channels, dtype):
    parts = [integers(2, c, 5, 9, dtype=dtype) for c in channels]
    moved("Concat", parts, [np.concatenate(parts, 1)], {"axis": 1})


@pytest.mark.parametrize("axis", [0, 2, 3])
def test_concat_of_other_axes(axis):
    shape = np.array([1, 6, 5, 9])
    shapes = [shape + (np.arange(4) == axis) * i for i in range(3)]
    parts = [integers(*shape) for shape in shapes]
    moved("Concat", parts, [np.concatenate(parts, axis)], {"axis": axis})


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize(("n", "c"), [(1, 1), (3, 1), (1, 3), (1, 4), (2, 6)])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_concat_of_single_pixels_and_constants_with_maps(axis, n, c, dtype):
    shapes = [[n, c, 1, 1], [n, c, 1, 1], [n, c, 1, 1], [n, c, 1, 1]]
    shapes[1][axis] = 5
    parts = [integers(*shape, dtype=dtype) for shape in shapes]
    if axis == 1:
        parts = [np.ascontiguousarray(part.repeat(3, 3)) for part in parts]
    whole = np.concatenate(parts, axis)
    moved("Concat", parts, [whole], {"axis": axis})
    moved("Concat", parts, [whole], {"axis": axis}, constants=[1, 3])
    if axis > 1:
        for y_scale in (0.03, 0.05):
            how = {"axis": axis, "scales": (0.03,) * 4, "zeros": (7,) * 4, "y_scale": y_scale, "y_zero": 7}
            for isa in ISA:
                check("QConcat", parts, (dtype, whole.shape), how, isa, pad=1)


def test_concat_of_dense_bytes():
    parts = [integers(2, 5, 1, 1), integers(2, 3, 1, 1)]
    moved("Concat", parts, [np.concatenate(parts, 1)], {"axis": 1})
    parts = [integers(3, 5), integers(3, 2)]
    moved("Concat", parts, [np.concatenate(parts, 1)], {"axis": 1})


@pytest.mark.parametrize("shape", [(2, 6, 5, 9), (2, 5, 1, 1), (3, 7)])
def test_concat_of_different_numbers(shape):
    parts = [integers(*shape), integers(*shape, dtype="int8"), integers(*shape)]
    numbers = {"axis": 1, "scales": (0.02, 0.03, 0.04), "zeros": (7, -9, 130), "y_scale": 0.03, "y_zero": 12}
    out = (shape[0], 3 * shape[1], *shape[2:])
    for isa in ISA:
        check("QConcat", parts, ("uint8", out), numbers, isa, pad=1)
    numbers |= {"y_scale": 0.02, "y_zero": 7}
    for isa in ISA:
        check("QConcat", parts, ("uint8", out), numbers, isa, pad=1)


@pytest.mark.parametrize("sizes", [(4, 8), (3, 6, 3), (2, 10), (8, 3, 1)])
def test_split_of_channels(sizes):
    x = integers(2, 12, 5, 9)
    moved("Split", [x], np.split(x, np.cumsum(sizes)[:-1], 1), {"axis": 1, "sizes": sizes})


def test_split_of_other_axes():
    x = integers(2, 6, 5, 9)
    moved("Split", [x], np.split(x, [2], 2), {"axis": 2, "sizes": (2, 3)})
    moved("Split", [x], np.split(x, [4], 3), {"axis": 3, "sizes": (4, 5)})
    y = integers(6, 10)
    moved("Split", [y], np.split(y, [4], 1), {"axis": 1, "sizes": (4, 6)})


@pytest.mark.parametrize(
    ("axes", "starts", "ends", "steps"),
    [
        ((1,), (4,), (11,), (1,)),
        ((1,), (1,), (11,), (3,)),
        ((2, 3), (1, 2), (5, 9), (1, 1)),
        ((1, 2), (3, 0), (9, 4), (2, 2)),
        ((1, 3), (8, 1), (12, 9), (1, 2)),
        ((0, 1), (1, 2), (2, 4), (1, 1)),
    ],
)
def test_slice(axes, starts, ends, steps):
    x = integers(2, 12, 5, 9)
    cut = [slice(None)] * 4
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cut[axis] = slice(start, end, step)
    how = {"axes": axes, "starts": starts, "ends": ends, "steps": steps}
    moved("Slice", [x], [np.ascontiguousarray(x[tuple(cut)])], how)


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize(("n", "c"), [(1, 1), (3, 1), (2, 4), (1, 6)])
def test_single_pixels_of_maps(axis, n, c):
    """Maps of one pixel are dense, what they are cut out of is not."""
    shape = [n, c, 1, 1]
    shape[axis] = 4
    x = integers(*shape)
    moved("Split", [x], np.split(x, [1, 3], axis), {"axis": axis, "sizes": (1, 2, 1)})
    for at in (0, 2):
        one = np.ascontiguousarray(x.take([at], axis))
        moved("Slice", [x], [one], {"axes": (axis,), "starts": (at,), "ends": (at + 1,), "steps": (1,)})
    how = {"axes": (1, axis), "starts": (c - 1, 1), "ends": (c, 2), "steps": (1, 1)}
    moved("Slice", [x], [np.ascontiguousarray(x[:, -1:].take([1], axis))], how)


@pytest.mark.parametrize("channels", [4, 12, 16])
@pytest.mark.parametrize("n", [1, 2])
def test_depth_of_single_pixels(n, channels):
    x = integers(n, channels, 1, 1)
    c = channels // 4
    for mode, axes in (("DCR", (0, 3, 1, 2)), ("CRD", (0, 1, 2, 3))):
        parts = x.reshape(n, 2, 2, c) if mode == "DCR" else x.reshape(n, c, 2, 2)
        wide = np.ascontiguousarray(parts.transpose(axes))
        moved("DepthToSpace", [x], [wide], {"blocksize": 2, "mode": mode})
        if mode == "DCR":
            moved("SpaceToDepth", [wide], [x], {"blocksize": 2})


@pytest.mark.parametrize(("channels", "groups"), [(8, 2), (12, 3), (10, 2), (6, 6)])
def test_channel_shuffle(channels, groups):
    for shape in ((2, channels, 5, 9), (2, channels, 1, 1)):
        x = integers(*shape)
        n = shape[0]
        shuffled = x.reshape(n, groups, channels // groups, *shape[2:]).swapaxes(1, 2).reshape(shape)
        moved("ChannelShuffle", [x], [shuffled], {"groups": groups})


def test_gather_of_channels():
    x = integers(2, 10, 5, 9)
    picks = np.array([9, 0, 3, -2, 4, 5, 6])
    moved("Gather", [x, picks], [x[:, picks]], {"axis": 1}, constants=[1])


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_gather_of_other_axes(axis):
    picks = np.array([[1, 0], [-1, 1]])
    for shape in ((2, 6, 5, 9), (2, 6, 5), (2, 6)):
        if axis < len(shape):
            x = integers(*shape)
            moved("Gather", [x, picks], [np.take(x, picks % shape[axis], axis)], {"axis": axis}, constants=[1])
            one = np.array(1)
            moved("Gather", [x, one], [np.ascontiguousarray(x.take(1, axis))], {"axis": axis}, constants=[1])


def test_gather_that_makes_maps():
    x = integers(7, 3, 4)
    picks = np.array([[1, 0, 5], [6, 1, 2]])
    moved("Gather", [x, picks], [x[picks]], {"axis": 0}, constants=[1])


@pytest.mark.parametrize("perm", [(0, 2, 3, 1), (0, 3, 1, 2), (1, 0, 2, 3), (0, 1, 3, 2)])
@pytest.mark.parametrize("shape", [(2, 6, 5, 9), (1, 3, 1, 8), (2, 5, 1, 1)])
def test_transpose(perm, shape):
    x = integers(*shape, dtype="int8")
    moved("Transpose", [x], [np.ascontiguousarray(x.transpose(perm))], {"perm": perm})


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((2, 6, 5, 9), (2, 270)),
        ((2, 270), (2, 6, 5, 9)),
        ((2, 6, 5, 9), (2, 3, 10, 9)),
        ((2, 5, 1, 1), (2, 5)),
        ((4, 6), (24,)),
    ],
)
def test_reshape(shape, wanted):
    x = integers(*shape)
    moved("Reshape", [x], [x.reshape(wanted)], {})


@pytest.mark.parametrize("channels", [16, 12, 4])
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_and_back(channels, mode):
    x = integers(2, channels, 5, 6)
    c = channels // 4
    parts = x.reshape(2, 2, 2, c, 5, 6) if mode == "DCR" else x.reshape(2, c, 2, 2, 5, 6)
    wide = parts.transpose(0, 3, 4, 1, 5, 2) if mode == "DCR" else parts.transpose(0, 1, 4, 2, 5, 3)
    wide = np.ascontiguousarray(wide).reshape(2, c, 10, 12)
    moved("DepthToSpace", [x], [wide], {"blocksize": 2, "mode": mode})
    if mode == "DCR":
        moved("SpaceToDepth", [wide], [x], {"blocksize": 2})


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_pad(dtype):
    x = integers(2, 6, 5, 9, dtype=dtype)
    sides = ((0, 0), (0, 0), (1, 2), (3, 0))
    pads = (0, 0, 1, 3, 0, 0, 2, 0)
    for value in (0, 7, 255 if dtype == "uint8" else -128):
        how = {"pads": pads, "mode": "constant", "value": value}
        moved("Pad", [x], [np.pad(x, sides, constant_values=value)], how)
    moved("Pad", [x], [np.pad(x, sides, mode="reflect")], {"pads": pads, "mode": "reflect", "value": 0})


@pytest.mark.parametrize("channels", [(4, 4), (2, 3), (0, 5)])
@pytest.mark.parametrize("sides", [(0, 0), (1, 2)])
def test_pad_of_channels(channels, sides):
    x = integers(2, 6, 5, 9)
    how = {"pads": (0, channels[0], sides[0], 0, 0, channels[1], sides[1], 0), "mode": "constant", "value": 7}
    moved("Pad", [x], [np.pad(x, ((0, 0), channels, sides, (0, 0)), constant_values=7)], how)


def test_nearest_resize():
    x = integers(2, 6, 5, 9)
    how = {
        "sizes": (2, 6, 10, 18), "scales": (1.0, 1.0, 2.0, 2.0), "mode": "nearest", "coordinate": "asymmetric",
        "nearest_mode": "floor", "antialias": 0, "cubic_coeff_a": -0.75, "exclude_outside": 0,
    }  # fmt: skip
    moved("Resize", [x], [x.repeat(2, 2).repeat(2, 3)], how)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_cast_to_floats(dtype):
    for shape in ((2, 6, 5, 9), (3, 7)):
        x = integers(*shape, dtype=dtype)
        moved("Cast", [x], [x.astype(np.float32)], {"to": 1})
