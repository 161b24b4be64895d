"""Steps after the closed form: each is tried, and kept where it brings the network nearer to the dense one.

How that is judged: judge.py.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.cache import Cache, key_of
from secateur.pipeline.posttraining.judge import Judge
from secateur.posttraining.arrays import array_of
from secateur.posttraining.losses import Divergence
from secateur.progress import say
from secateur.training.checkpoint import digest_of


@dataclass
class Steps:
    """The steps of one network, and what each came to.

    folder    keeps the network after a step, so that another start does not repeat it
    rows      (step, KL distance after it, whether it was kept, the parts of its verdict), the first one of the network
              as it was when it got zeros
    """

    network: nn.Module
    dense: nn.Module
    distance: Divergence
    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    _judge: Judge = field(init=False, repr=False)

    def begin(self, step: str) -> None:
        """The network has its zeros: what `step` brought is what others are compared with."""
        self._judge = Judge(self.distance)
        self.rows.append({"step": step, "distance": self._judge.now, "kept": True})

    def attempt(self, step: str, change: Callable[[], object], settings: object = None) -> None:
        """Carry out `change` on the network, and take it back where it does not come nearer than chance would have it.

        settings    all that the change depends on besides the networks and the images, as JSON; None: it is carried
                    out at every start, and knows itself how to go on
        """
        least = self._judge.now
        before = copy.deepcopy(self.network.state_dict())
        cache, key = Cache(self.folder), ""
        if settings is not None:
            key = key_of(["step", step, digest_of(self.network), self.distance.digest, settings])
        done = cache.get(key) if key else None
        if done is None:
            change()
            if key:
                arrays = {name: array_of(value) for name, value in self.network.state_dict().items()}
                cache.put(key, {"step": step}, arrays)
        else:
            self.network.load_state_dict({name: torch.from_numpy(array) for name, array in done.arrays.items()})
        self.network.eval()
        verdict = self._judge.verdict()
        if not verdict.nearer:
            self.network.load_state_dict(before)
        say(f"posttraining: {step}, distance to the dense network {least:.4g} -> {verdict.distance:.4g}, {verdict}")
        row = {"step": step, "distance": self._judge.now, "tried": verdict.distance, "kept": verdict.nearer}
        judged = ("fall", "error", "sharp_fall", "sharp_error")
        self.rows.append(row | {name: _finite(getattr(verdict, name)) for name in judged})


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None
