"""PocketFlow's heuristic: the published figures, and what happens where they exceed 1."""

import pytest

from secateur.sparsity import AllocationOptions, Layer, allocate

SIZES = (432, 2304, 9216, 36864, 640)


def layers(sizes):
    return [Layer(f"l{i}", "linear", (1, size)) for i, size in enumerate(sizes)]


def test_levels_as_published():
    """ALGORITHMS.md L6."""
    found = allocate(layers(SIZES), 0.75, "heuristic")
    assert list(found.levels.values()) == pytest.approx([0.45349, 0.578586, 0.682183, 0.78578, 0.482862], abs=5e-7)
    assert found.achieved == pytest.approx(0.75, abs=1e-12)


def test_levels_above_the_cap_are_clipped_and_given_to_the_others():
    # Unclipped the largest layer would get .97 / .75 * .78578 = 1.016.
    found = allocate(layers(SIZES), 0.97, "heuristic", options=AllocationOptions(cap=0.99))
    assert found.capped == ("l3",) and found.levels["l3"] == pytest.approx(0.99)
    assert found.achieved == pytest.approx(0.97, abs=1e-12)
    rest = [found.levels[f"l{i}"] for i in (0, 1, 2, 4)]
    logs = [6.06843, 7.74240, 9.12870, 6.46147]
    ratios = [level / log for level, log in zip(rest, logs, strict=True) if level < 0.99]
    assert ratios == pytest.approx([ratios[0]] * len(ratios), rel=1e-5)
