"""The plan: what will become of every layer, before anything is changed.

Printed, it is a table to act on: each layer with its level and zeros, or with the reason why it is left
alone.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from secateur.errors import ArtifactError, SparsityError
from secateur.graph.base_count import BASES
from secateur.graph.layer_count import Kind
from secateur.graph.table import dims, percent, text_table
from secateur.sparsity.allocation import AllocationBase
from secateur.sparsity.pattern import Pattern, parse_pattern
from secateur.sparsity.rounding import Rounding, Ties, removed_count


@dataclass(frozen=True)
class PlannedLayer:
    """One layer's part in the plan.

    level     fraction of its groups that go; None for a layer that stays dense
    units     groups of weights that go or stay together
    zeros     weights that will be zero; exact where all groups have one size, else the expected number
    reason    why it stays dense
    bound     the largest level it may have
    fixed     whether its level is given, and no allocation's choice
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    groups: int
    level: float | None
    units: int
    zeros: int
    reason: str | None = None
    bound: float = 1.0
    fixed: bool = False

    @property
    def weights(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class SparsityPlan:
    """Level or reason for every layer, and what they add up to.

    sparsity    the target, in `base`
    capped      layers at the largest level allowed
    trials      (setting, sparsity) of every step of an allocation that searches
    """

    sparsity: float
    base: AllocationBase
    pattern: Pattern
    criterion: str
    allocation: str
    rounding: Rounding
    ties: Ties
    layers: tuple[PlannedLayer, ...]
    capped: tuple[str, ...] = ()
    trials: tuple[tuple[float, float], ...] = ()

    @property
    def levels(self) -> dict[str, float]:
        """Level of every layer that is pruned."""
        return {layer.name: layer.level for layer in self.layers if layer.level is not None}

    @property
    def skipped(self) -> dict[str, str]:
        """Reason of every layer that stays dense."""
        return {layer.name: layer.reason or "" for layer in self.layers if layer.level is None}

    @property
    def zeros(self) -> int:
        return sum(layer.zeros for layer in self.layers)

    @property
    def total(self) -> int:
        """Weights counted in `base`."""
        return sum(layer.weights for layer in self.layers if self.base == "conv_linear" or layer.level is not None)

    @property
    def achieved(self) -> float:
        """Sparsity in `base` once whole groups are counted."""
        return self.zeros / self.total if self.total else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "sparsity": self.sparsity,
            "base": self.base,
            "achieved": self.achieved,
            "pattern": str(self.pattern),
            "remainder": self.pattern.remainder,
            "criterion": self.criterion,
            "allocation": self.allocation,
            "rounding": self.rounding,
            "ties": self.ties,
            "capped": list(self.capped),
            "trials": [list(trial) for trial in self.trials],
            "layers": [asdict(layer) | {"shape": list(layer.shape)} for layer in self.layers],
        }

    @classmethod
    def from_dict(cls, value: Any) -> "SparsityPlan":
        """The plan that `to_dict` wrote. raises ArtifactError when it is something else."""
        try:
            removed_count(1, float(value["sparsity"]), value["rounding"])
            return cls(
                sparsity=float(value["sparsity"]),
                base=value["base"],
                pattern=parse_pattern(value["pattern"], value["remainder"]),
                criterion=value["criterion"],
                allocation=value["allocation"],
                rounding=value["rounding"],
                ties=value["ties"],
                layers=tuple(_planned(layer) for layer in value["layers"]),
                capped=tuple(value["capped"]),
                trials=tuple((float(setting), float(achieved)) for setting, achieved in value["trials"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, SparsityError) as error:
            raise ArtifactError(f"this is not a sparsity plan: {type(error).__name__} {error}.") from error

    def __str__(self) -> str:
        headers = ("layer", "kind", "shape", "pattern", "level %", "zeros", "of", "remark")
        rows = [self._row(layer) for layer in self.layers]
        rows.append(
            (
                "total",
                "",
                "",
                "",
                percent(self.achieved, 1.0),
                f"{self.zeros:,}",
                f"{self.total:,}",
                self.base,
            )
        )
        lines = [text_table(headers, rows, left=4, total=True)]
        lines.append(
            f"target {100 * self.sparsity:.2f} %, planned {100 * self.achieved:.2f} % "
            f"(base {self.base}: {BASES[self.base]})"
        )
        remainder = f" (remainder {self.pattern.remainder})" if "remainder" in vars(self.pattern) else ""
        lines.append(
            f"pattern {self.pattern}{remainder}, criterion {self.criterion}, allocation {self.allocation}, "
            f"rounding {self.rounding}, ties {self.ties}; {len(self.levels)} layers pruned, "
            f"{len(self.skipped)} left dense"
        )
        return "\n".join(lines)

    def _row(self, layer: PlannedLayer) -> tuple[str, ...]:
        cells = (layer.name, layer.kind, dims(layer.shape))
        if layer.level is None:
            return (*cells, "dense", "-", "0", f"{layer.weights:,}", layer.reason or "")
        remark = "at the cap" if layer.name in self.capped else ""
        level = percent(layer.level, 1.0)
        return (*cells, str(self.pattern), level, f"{layer.zeros:,}", f"{layer.weights:,}", remark)


def _planned(entry: Mapping[str, Any]) -> PlannedLayer:
    values = dict(entry)
    values["shape"] = tuple(int(side) for side in values["shape"])
    return PlannedLayer(**values)
