"""Streams are laid out bit for bit as the definitions say, spelled out here one position after the other."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.engine.kernels.conv_form import AHEAD, PANEL_FIELDS
from secateur.engine.weights.by_pattern import covers, encode
from secateur.engine.weights.every_position import encode_dense
from secateur.engine.weights.lockstep import encode_lockstep
from secateur.engine.weights.streams import MAX_DELTA, Streams

Walk = list[tuple[int, list[float]]]
cases = {
    "seed": st.integers(0, 10_000),
    "groups": st.integers(1, 3),
    "per_group": st.integers(1, 11),
    "columns": st.integers(1, 40),
    "density": st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    "far": st.sampled_from([2, 100, 200_000]),
    "block": st.sampled_from([None, 1, 7, 64]),
    "packed": st.booleans(),
}


def drawn(seed: int, rows: int, columns: int, density: float, far: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((rows, columns)) * (rng.random((rows, columns)) < density)).astype(np.float32)
    return weight, np.cumsum(rng.integers(1, far, columns))


def steps(walk: Walk, width: int) -> Walk:
    """(place, weights) as (distance, weights), with steps of weight 0 where a distance does not fit into 16 bits."""
    found: Walk = []
    at = 0
    for place, weights in walk:
        while place - at > MAX_DELTA:
            found.append((MAX_DELTA, [0.0] * width))
            at += MAX_DELTA
        found.append((place - at, weights))
        at = place
    return found


def panel_order(groups: int, per_group: int, rows: int) -> np.ndarray:
    """Rows in panels that hold no rows of two groups; -1 fills them up."""
    one = [*range(per_group), *[-1] * (-per_group % rows)]
    return np.array([row + group * per_group if row >= 0 else -1 for group in range(groups) for row in one], np.int64)


def check(streams: Streams, records: list[list[int]], deltas: list[int], weights: list[float], rows: list[int]) -> None:
    """Whether streams are these. The place ahead, which only prefetching uses, is not looked at."""
    words = [index for index in range(streams.panels.shape[1]) if index != PANEL_FIELDS.index("ahead")]
    assert streams.panels[:, words].tolist() == records
    assert streams.deltas.tolist() == deltas + [0] * AHEAD
    np.testing.assert_array_equal(streams.weights, np.array(weights, np.float32))
    assert streams.rows.tolist() == rows
    assert (streams.panels.dtype, streams.deltas.dtype) == (np.int32, np.uint16)


@settings(max_examples=150, deadline=None)
@given(height=st.integers(1, 5), kind=st.sampled_from(["full", "all", "dense", "shared"]), **cases)
def test_panels_as_defined(height, kind, seed, groups, per_group, columns, density, far, block, packed) -> None:
    weight, places = drawn(seed, groups * per_group, columns, density, far)
    order = panel_order(groups, per_group, height)
    starts = np.repeat(np.arange(groups) * 1000, len(order) // height // groups)
    patterns = tuple(range(1, 2**height)) if kind == "all" else (2**height - 1,)
    smallest = covers(patterns, height)[:, 0]
    shared = kind == "shared"
    length = columns if shared else block or columns
    records, deltas, weights = [], [], []
    for begin in range(0, columns, length):
        own = range(begin, min(begin + length, columns))
        origin = int(places[begin]) if length < columns else 0
        for panel in range(len(order) // height):
            members = order[panel * height : (panel + 1) * height]
            walks: dict[int, Walk] = {index: [] for index in range(len(patterns))}
            for k in own:
                column = [float(weight[row, k]) if row >= 0 else 0.0 for row in members]
                code = sum(1 << r for r in range(height) if column[r] != 0)
                index = 0 if kind in ("dense", "shared") else int(smallest[code])
                if index >= 0:
                    kept = [column[r] for r in range(height) if patterns[index] >> r & 1]
                    walks[index].append((int(places[k]) - origin, kept))
            taken = [steps(walks[index], patterns[index].bit_count()) for index in walks]
            start = int(starts[panel]) + (0 if packed and not shared else origin)
            at = 0 if shared else len(deltas)
            records.append([start, at, len(weights), panel * height, *map(len, taken)])
            if not shared or panel == 0:
                deltas += [delta for part in taken for delta, _ in part]
            weights += [value for part in taken for _, values in part for value in values]
    if shared:
        streams = encode_dense(weight, places, height, order=order, starts=starts)
    else:
        dense = kind == "dense"
        options = {"order": order, "block": block, "starts": starts, "packed": packed, "dense": dense}
        streams = encode(weight, places, height, patterns, **options)
    check(streams, records, deltas, weights, order.tolist())


@settings(max_examples=150, deadline=None)
@given(height=st.integers(1, 5), **cases)
def test_lockstep_as_defined(height, seed, groups, per_group, columns, density, far, block, packed) -> None:
    weight, places = drawn(seed, groups * per_group, columns, density, far)
    records, deltas, weights, rows = [], [], [], []
    for begin in range(0, columns, block or columns):
        own = range(begin, min(begin + (block or columns), columns))
        origin = int(places[begin])
        for group in range(groups):
            members = range(group * per_group, (group + 1) * per_group)
            walks = [[(int(places[k]) - origin, [float(weight[r, k])]) for k in own if weight[r, k]] for r in members]
            walked = {row: steps(walk, 1) for row, walk in zip(members, walks, strict=True)}
            longest_first = sorted(members, key=lambda row: -len(walked[row]))
            longest_first += [-1] * (-per_group % height)
            for first in range(0, len(longest_first), height):
                panel = longest_first[first : first + height]
                turns = max(len(walked.get(row, ())) for row in panel)
                records.append([group * 1000 + (0 if packed else origin), len(deltas), len(deltas), len(rows), turns])
                for turn in range(turns):
                    for row in panel:
                        walk = walked.get(row, [])
                        delta, values = walk[turn] if turn < len(walk) else (0, [0.0])
                        deltas.append(delta)
                        weights += values
                rows += panel
    streams = encode_lockstep(weight, places, height, groups=groups, block=block, group_places=1000, packed=packed)
    check(streams, records, deltas, weights, rows)
    np.testing.assert_array_equal(streams.costs, [record[4] * height + 2 * height for record in records])
