"""The rule for whole networks: where ONNX Runtime is clearly faster on this machine, it runs the network.

Both compute the same inputs in turns, so that a machine that changes its speed changes it for both.

    delegate  when  median over turns of (time here / time in ONNX Runtime)  >  1 + MARGIN
              and   least time here > (1 + MARGIN) * least time in ONNX Runtime

Asked only when a network is tuned: it costs a second, and the answer depends on this machine.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np

from secateur.graph.ir import Graph

# Two sessions of one file, placed differently in memory, differ by up to 3.6 % (measure/clock.py).
MARGIN = 0.05
TURNS = 25
SECONDS = 1.5
_LEAST = 5

Run = Callable[[], object]


@dataclass(frozen=True)
class Race:
    """Seconds of every turn, here and in ONNX Runtime."""

    here: tuple[float, ...]
    there: tuple[float, ...]

    def verdict(self) -> str:
        """Why ONNX Runtime should run the network, or "" where it should not."""
        ratio = median(ours / theirs for ours, theirs in zip(self.here, self.there, strict=True))
        if min(ratio, min(self.here) / min(self.there)) <= 1 + MARGIN:
            return ""
        return (
            f"it was {ratio:.2f} times as fast there ({1e3 * median(self.there):.2f} ms, "
            f"here {1e3 * median(self.here):.2f} ms), timed in turns on this machine"
        )


def can_delegate() -> bool:
    """Is ONNX Runtime installed."""
    return importlib.util.find_spec("onnxruntime") is not None


def race(here: Run, there: Run) -> Race:
    """Times of both, in turns, after two turns that do not count."""
    for run in (here, there, here, there):
        run()
    ours: list[float] = []
    theirs: list[float] = []
    end = perf_counter() + SECONDS
    while len(ours) < TURNS and (len(ours) < _LEAST or perf_counter() < end):
        first, second = (here, ours), (there, theirs)
        for run, times in (first, second) if len(ours) % 2 else (second, first):
            start = perf_counter()
            run()
            times.append(perf_counter() - start)
    return Race(tuple(ours), tuple(theirs))


def random_feeds(graph: Graph) -> Mapping[str, np.ndarray]:
    """Standard normal numbers, zeros for whole numbers, for every input of a graph."""
    rng = np.random.default_rng(0)
    feeds: dict[str, np.ndarray] = {}
    for name in graph.inputs:
        kind = graph.type(name)
        values = rng.standard_normal(kind.shape) if kind.numpy.kind == "f" else np.zeros(kind.shape)
        feeds[name] = values.astype(kind.numpy)
    return feeds
