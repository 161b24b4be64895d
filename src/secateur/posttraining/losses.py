"""What the network loses when one layer alone is replaced: errors for the choice of levels.

    KL(p, q) = mean over images of sum_c p_c (log p_c - log q_c)        p: the dense network, q: the one with the layer

Measured at a few options of every layer; between them linear in the layer's output error, which is what falls
together with it inside one layer, and never falling. No labels.

Source: our own design, after the loss-aware sensitivities of Frantar & Alistarh 2022.
"""

import bisect
import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from secateur.cache import Cache, digest_of, key_of
from secateur.errors import PosttrainingError
from secateur.posttraining.arrays import array_of
from secateur.posttraining.database import Database
from secateur.posttraining.subject import Subject
from secateur.progress import track
from secateur.registry import unknown

DENSITIES = (0.5, 0.25, 0.1, 0.03)

Batches = Callable[[], Iterable[Tensor]]


@dataclass(frozen=True)
class Losses:
    """Measured divergences.

    curves    layer -> (output error, divergence) pairs, both rising, from (0, 0)
    """

    curves: Mapping[str, tuple[tuple[float, float], ...]]

    def of(self, layer: str, errors: Sequence[float]) -> list[float]:
        """Divergences for output errors of a layer; those of layers that were not measured are 0 where the error is.

        raises    PosttrainingError  a layer with errors that was not measured
        """
        if layer not in self.curves:
            if not any(errors):
                return [0.0] * len(errors)
            raise PosttrainingError(unknown("layer whose loss was measured", layer, self.curves))
        return [_between(self.curves[layer], error) for error in errors]


class Divergence:
    """How far a network is from its dense self on some images.

    subject    as it is now, dense
    batches    the same images each time, prepared
    digest     stands for the images and the dense answers
    """

    def __init__(self, subject: Subject, batches: Batches) -> None:
        self.subject, self.batches = subject, batches
        self._dense: list[Tensor] = []
        seen: list[str] = []
        for images in batches():
            self._dense.append(_logits(subject, images))
            seen.append(digest_of(array_of(images)))
        if not self._dense:
            raise PosttrainingError("at least one image is needed to compare networks on.")
        self.digest = key_of([subject.digest(), seen])

    def of(self, subject: Subject) -> "Divergence":
        """The same images and dense answers, for another network."""
        other = copy.copy(self)
        other.subject = subject
        return other

    def each(self, *temperatures: float) -> list[Tensor]:
        """T^2 KL(dense || subject) of every image at every temperature, (images,) float64, from one look.

        Not a number, or infinite, where the answers are none.
        """
        own = [_logits(self.subject, images) for images in self.batches()]
        return [
            torch.cat([_divergences(dense, found, each) for dense, found in zip(self._dense, own, strict=True)])
            for each in temperatures
        ]

    def __call__(self) -> float:
        """The divergence of the subject as it is now; infinite where its answers are not numbers."""
        mean = float(self.each(1.0)[0].mean())
        return max(mean, 0.0) if mean == mean else float("inf")


def measure_losses(
    subject: Subject,
    database: Database,
    batches: Batches,
    *,
    densities: Sequence[float] = DENSITIES,
    folder: Path | str | None = None,
) -> Losses:
    """Divergences with every layer alone at the options nearest to `densities`; the subject is dense again afterwards.

    A layer without bias whose options shift it keeps a bias of zeros.

    folder    of measurements that are kept, so that a killed call goes on: by default in that of the database
    raises    ArtifactError  an option cannot be read
    """
    divergence = Divergence(subject, batches)
    cache = Cache(Path(folder) if folder is not None else database.folder / "losses")
    wanted = {name: _measured(database, name, densities) for name, own in database.layers.items() if own.key}
    curves: dict[str, tuple[tuple[float, float], ...]] = {}
    with track(sum(map(len, wanted.values())), "losses") as progress:
        for name, options in wanted.items():
            points = [(0.0, 0.0)]
            weight, bias = subject.weight(name), database.bias(name)
            for option in options:
                row = database.options(name)[option]
                key = key_of(["loss of one layer", divergence.digest, name, row.digest])
                entry = cache.get(key)
                if entry is None:
                    own = database.load(name, option)
                    try:
                        subject.store_(name, own.weight, _shifted(bias, own.shift))
                        entry = cache.put(key, {"divergence": _finite(divergence())})
                    finally:
                        subject.store_(name, weight, _restored(bias, own.shift))
                points.append((row.error, float(entry.value["divergence"])))
                progress.advance()
            curves[name] = _rising(points)
    return Losses(curves)


def _measured(database: Database, name: str, densities: Sequence[float]) -> list[int]:
    """The options of the first pattern nearest to the densities, and the worst of all."""
    rows = database.options(name)
    first = [index for index, row in enumerate(rows) if row.pattern == rows[min(1, len(rows) - 1)].pattern]
    weights = database.layers[name].layer.weights
    chosen = {min(first, key=lambda i: abs(1 - rows[i].zeros / weights - density)) for density in densities}
    chosen.add(max(range(len(rows)), key=lambda index: rows[index].error))
    return sorted(chosen - {0})


def _rising(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Sorted by error, divergences that never fall: noise of a few images must not pay for errors."""
    curve: list[tuple[float, float]] = []
    for error, value in sorted(points):
        value = max(value, curve[-1][1]) if curve else value
        if curve and error == curve[-1][0]:
            curve.pop()
        curve.append((error, value))
    return tuple(curve)


def _between(curve: Sequence[tuple[float, float]], error: float) -> float:
    errors = [point[0] for point in curve]
    if error >= errors[-1]:
        return curve[-1][1]
    after = bisect.bisect_right(errors, error)
    (low, before), (high, behind) = curve[after - 1], curve[after]
    return before + (behind - before) * (error - low) / (high - low)


def _shifted(bias: Tensor | None, shift: Tensor | None) -> Tensor | None:
    return bias if shift is None else shift if bias is None else bias + shift


def _restored(bias: Tensor | None, shift: Tensor | None) -> Tensor | None:
    return torch.zeros_like(shift) if bias is None and shift is not None else bias


def _finite(value: float) -> float:
    """JSON has no infinity; nothing that is chosen may be as bad as a network without answers."""
    return min(value, 1e6)


def _logits(subject: Subject, images: Tensor) -> Tensor:
    return subject.run(images).double().cpu()


def _divergences(dense: Tensor, own: Tensor, temperature: float) -> Tensor:
    wanted, found = (torch.log_softmax(logits / temperature, dim=1) for logits in (dense, own))
    return (wanted.exp() * (wanted - found)).sum(dim=1) * temperature**2
