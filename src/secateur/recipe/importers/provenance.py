"""Where an imported recipe comes from, and what its authors measured.

    provenance = import_recipe("resnet50_pruned_85_schedule.yaml").provenance
    print(check_against(provenance, secateur.census(network)))

Distiller's files carry the table of nonzeros of the published network in their comments; `check_against` compares a
network with it, layer by layer.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol


class CountedLayer(Protocol):
    """A layer whose weights were counted: a row of `secateur.census`."""

    @property
    def name(self) -> str: ...
    @property
    def weights(self) -> int: ...
    @property
    def nonzeros(self) -> int: ...


class Counted(Protocol):
    """What `secateur.census` returns."""

    @property
    def layers(self) -> Iterable[CountedLayer]: ...
    @property
    def sparse_macs(self) -> int: ...


@dataclass(frozen=True)
class ExpectedLayer:
    """One row of a published table.

    weights    of the tensor as published: fewer than at first where filters were removed
    """

    name: str
    shape: tuple[int, ...]
    weights: int
    nonzeros: int


@dataclass(frozen=True)
class Provenance:
    """What a file of another tool says about itself.

    command           the command line in its comments
    layers            published nonzeros per layer, under our names
    weights, nonzeros published totals
    macs              published multiply-accumulates of what is left; a rounded figure where it was printed rounded
    accuracy          top1, top5, base_top1, base_top5 in percent, as far as they are given
    """

    tool: str
    source: str
    command: str | None = None
    layers: tuple[ExpectedLayer, ...] = ()
    weights: int | None = None
    nonzeros: int | None = None
    macs: float | None = None
    accuracy: dict[str, float] = field(default_factory=dict)
    best_epoch: int | None = None


@dataclass(frozen=True)
class Difference:
    """A layer, or the total, that is not as published."""

    name: str
    expected: str
    found: str


@dataclass(frozen=True)
class Check:
    """A network beside the published table; `print` shows where they differ."""

    source: str
    compared: int
    differences: tuple[Difference, ...]

    @property
    def agrees(self) -> bool:
        return self.compared > 0 and not self.differences

    def __str__(self) -> str:
        if not self.compared:
            return f"{self.source}: gives no table of nonzeros to compare with."
        if not self.differences:
            return f"{self.source}: all {self.compared} published layers have the published nonzeros."
        width = max(len(d.name) for d in self.differences)
        rows = [f"  {d.name:{width}}  published {d.expected}, found {d.found}" for d in self.differences]
        return "\n".join([f"{self.source}: {len(rows)} differences in {self.compared} published layers:", *rows])


def check_against(provenance: Provenance, census: Counted, tolerance: int = 1) -> Check:
    """Compare the nonzeros of a network with the published ones, layer by layer and in total.

    tolerance    nonzeros by which a layer may differ: files whose masks keep what is strictly greater than a
                 threshold lose one more where two weights are equal
    """
    found = {layer.name: layer for layer in census.layers}
    differences: list[Difference] = []
    for layer in provenance.layers:
        ours = found.get(layer.name)
        if ours is None:
            differences.append(Difference(layer.name, f"{layer.nonzeros:,}", "no such layer"))
        elif ours.weights != layer.weights:
            differences.append(Difference(layer.name, f"{layer.weights:,} weights", f"{ours.weights:,}"))
        elif abs(ours.nonzeros - layer.nonzeros) > tolerance:
            differences.append(Difference(layer.name, f"{layer.nonzeros:,}", f"{ours.nonzeros:,}"))
    if provenance.nonzeros is not None:
        total = sum(layer.nonzeros for layer in found.values())
        if abs(total - provenance.nonzeros) > tolerance * max(len(provenance.layers), 1):
            differences.append(Difference("total", f"{provenance.nonzeros:,}", f"{total:,}"))
    return Check(provenance.source, len(provenance.layers), tuple(differences))
