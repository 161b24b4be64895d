"""A network that was put together for a target: what every layer becomes, and what the whole is predicted to cost.

It is plain data: printed as a table, written as JSON and read again, without weights. Predicted are the sums of what
the options cost; what the network was measured to cost afterwards can stand beside them.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from secateur.errors import ArtifactError, PosttrainingError
from secateur.graph.table import percent, text_table
from secateur.posttraining.costs import UNITS
from secateur.posttraining.target import Target, cost_text

Errors = Literal["output", "absolute", "loss"]
FORMAT = 1


@dataclass(frozen=True)
class StitchedLayer:
    """What one layer becomes.

    option        its number in the database
    error         relative squared error of its output
    cost          in the unit of the target, and `dense` that of the dense layer
    note          why it stays dense
    """

    name: str
    option: int
    pattern: str
    level: float
    zeros: int
    weights: int
    error: float
    cost: float
    dense: float
    note: str = ""

    @property
    def sparsity(self) -> float:
        return self.zeros / self.weights


@dataclass(frozen=True)
class Stitched:
    """A choice for every layer, and what it is predicted to cost.

    error       sum that was minimised, of `errors`, without coefficients
    budget      cost that the target allows
    cost        predicted cost of the whole network, `fixed` included;  dense: that of the dense network
    measured    cost of the whole network as it was measured afterwards
    """

    target: Target
    errors: Errors
    solver: str
    layers: tuple[StitchedLayer, ...]
    error: float
    budget: float
    cost: float
    dense: float
    fixed: float
    measured: float | None = None

    @property
    def sparsity(self) -> float:
        """Base conv_linear."""
        weights = sum(layer.weights for layer in self.layers)
        return sum(layer.zeros for layer in self.layers) / weights if weights else 0.0

    @property
    def choice(self) -> dict[str, int]:
        """Layer -> option."""
        return {layer.name: layer.option for layer in self.layers}

    @property
    def levels(self) -> dict[str, float]:
        """Layer -> level, dense ones 0."""
        return {layer.name: layer.level for layer in self.layers}

    def against(self, measured: float) -> "Stitched":
        """The same beside what the whole network was measured to cost, in the unit of the target."""
        if not 0.0 <= measured < math.inf:
            raise PosttrainingError(f"a measured cost is a number of at least 0, not {measured}.")
        return replace(self, measured=measured)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, value: Any) -> "Stitched":
        """What `to_dict` wrote. raises ArtifactError when it is something else."""
        try:
            if value["format"] != FORMAT or value["errors"] not in get_args(Errors):
                raise ValueError(f"format {value['format']}, errors {value['errors']}")
            rest = {key: value[key] for key in value if key != "format"}
            layers = tuple(StitchedLayer(**layer) for layer in value["layers"])
            return cls(**(rest | {"target": Target(**value["target"]), "layers": layers}))
        except (KeyError, TypeError, ValueError, AttributeError, PosttrainingError) as error:
            raise ArtifactError(f"this is not a stitched network: {type(error).__name__} {error}.") from error

    def __str__(self) -> str:
        kind = self.target.kind
        headers = ("layer", "pattern", "weights", "zeros", "zeros %", "output error", UNITS[kind], "of dense %", "note")
        rows = [
            (
                layer.name,
                layer.pattern,
                f"{layer.weights:,}",
                f"{layer.zeros:,}",
                percent(layer.zeros, layer.weights),
                f"{layer.error:.2e}" if layer.zeros or layer.error else "0",
                cost_text(kind, layer.cost, unit=False),
                f"{100 * layer.cost / layer.dense:.2f}" if layer.dense else "-",
                layer.note,
            )
            for layer in self.layers
        ]
        rows.append(
            (
                "total",
                "",
                f"{sum(layer.weights for layer in self.layers):,}",
                f"{sum(layer.zeros for layer in self.layers):,}",
                percent(sum(layer.zeros for layer in self.layers), sum(layer.weights for layer in self.layers)),
                "",
                cost_text(kind, self.cost, unit=False),
                f"{100 * self.cost / self.dense:.2f}" if self.dense else "-",
                f"with {cost_text(kind, self.fixed)} that nothing changes" if self.fixed else "",
            )
        )
        lines = [text_table(headers, rows, left=2, total=True)]
        lines.append(
            f"target {self.target}: predicted {cost_text(kind, self.cost)} of {cost_text(kind, self.dense)} dense, "
            f"{cost_text(kind, self.budget)} allowed; sparsity {100 * self.sparsity:.3f} % (base conv_linear); "
            f"sum of errors ({self.errors}) {self.error:.4g}, solver {self.solver}"
        )
        if self.measured is not None:
            away = f" ({100 * (self.measured / self.cost - 1):+.1f} %)" if self.cost else ""
            lines.append(
                f"measured {cost_text(kind, self.measured)}{away} against predicted {cost_text(kind, self.cost)}"
            )
        return "\n".join(lines)
