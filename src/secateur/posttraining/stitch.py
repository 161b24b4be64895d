"""A network for a target, put together from the database: one option for every layer.

    min sum_l a_l e[l, k_l]    subject to    fixed + sum_l c[l, k_l] <= C        a_l = 1 unless it is searched for

    errors    output     ||(W - W^) X||^2 / ||W X||^2 of every layer, the default
              absolute   the same times the layer's energy and positions: squared error of one image
              loss       divergence of the network from the dense one when this layer alone is replaced

Sparsity is that of all convolution and linear layers (base conv_linear, as in `secateur.sparsity.allocation`), layers
that stay dense included; with base `selected` only of those that may change.

Source: SPDY (Frantar & Alistarh 2022) for the formulation; measured seconds of our own engine are our own design.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from secateur.errors import ArtifactError, PosttrainingError
from secateur.graph.table import percent, text_table
from secateur.posttraining.costs import UNITS, CostFacts, CostKind, Costs, costs_of
from secateur.posttraining.database import Database
from secateur.posttraining.dynamic import Option, solvers
from secateur.posttraining.losses import Losses
from secateur.posttraining.subject import Subject
from secateur.registry import unknown
from secateur.sparsity import AllocationBase

Errors = Literal["output", "absolute", "loss"]
FORMAT = 1
CAP = 0.99


@dataclass(frozen=True)
class Target:
    """What the network may cost.

    value       sparsity: the least fraction of zeros; otherwise the most it may cost, in parameters, MACs, bytes or
                seconds of one inference as the tables were measured
    relative    value is a share of what the dense network costs
    base        of a sparsity
    raises      PosttrainingError  a kind that does not exist, a value that cannot be
    """

    kind: CostKind
    value: float
    relative: bool = False
    base: AllocationBase = "conv_linear"

    def __post_init__(self) -> None:
        if self.kind not in get_args(CostKind):
            raise PosttrainingError(unknown("kind of cost", self.kind, get_args(CostKind)))
        if self.base not in get_args(AllocationBase):
            raise PosttrainingError(unknown("base", self.base, get_args(AllocationBase)))
        share = self.kind == "sparsity" or self.relative
        if not (0.0 <= self.value < math.inf) or (share and self.value > 1.0):
            raise PosttrainingError(
                f"a target of {self.value} {UNITS[self.kind]} makes no sense: a sparsity or share is a fraction from 0 "
                "to 1, a cost a number of at least 0."
            )
        if self.kind == "sparsity" and self.relative:
            raise PosttrainingError("a target sparsity is a share already; leave relative out.")

    def __str__(self) -> str:
        if self.kind == "sparsity":
            return f"sparsity {self.value:g} (base {self.base})"
        return f"{self.value:.2%} of the dense {UNITS[self.kind]}" if self.relative else _figure(self.kind, self.value)


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
                _figure(kind, layer.cost, unit=False),
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
                _figure(kind, self.cost, unit=False),
                f"{100 * self.cost / self.dense:.2f}" if self.dense else "-",
                f"with {_figure(kind, self.fixed)} that nothing changes" if self.fixed else "",
            )
        )
        lines = [text_table(headers, rows, left=2, total=True)]
        lines.append(
            f"target {self.target}: predicted {_figure(kind, self.cost)} of {_figure(kind, self.dense)} dense, "
            f"{_figure(kind, self.budget)} allowed; sparsity {100 * self.sparsity:.3f} % (base conv_linear); "
            f"sum of errors ({self.errors}) {self.error:.4g}, solver {self.solver}"
        )
        if self.measured is not None:
            away = f" ({100 * (self.measured / self.cost - 1):+.1f} %)" if self.cost else ""
            lines.append(f"measured {_figure(kind, self.measured)}{away} against predicted {_figure(kind, self.cost)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class StitchSettings:
    """What a stitching can be told.

    errors          what is minimised
    losses          of errors `loss`
    facts           census and measured times, for the costs that need them
    excluded        layer -> reason why it stays dense; it is counted all the same
    caps            layer -> its largest level;  cap: that of all layers
    floor           the smallest density of any layer
    solver          name in `dynamic.solvers`
    coefficients    layer -> what its error is multiplied with
    """

    errors: Errors = "output"
    losses: Losses | None = None
    facts: CostFacts = field(default_factory=CostFacts)
    excluded: Mapping[str, str] = field(default_factory=dict[str, str])
    caps: Mapping[str, float] = field(default_factory=dict[str, float])
    cap: float = CAP
    floor: float = 0.0
    solver: str = "dynamic"
    coefficients: Mapping[str, float] = field(default_factory=dict[str, float])


def solve(
    database: Database, target: Target, errors: Errors | None = None, settings: StitchSettings | None = None
) -> Stitched:
    """The options with the least sum of errors whose cost is within `target`; no weights are read.

    errors    in place of that of `settings`
    raises    PosttrainingError  a target out of reach (says how far one can go), names that are no layers, facts
              that are missing;  RecipeError  an unknown solver
    """
    settings = settings or StitchSettings()
    if errors is not None:
        settings = replace(settings, errors=errors)
    for what, names in (("excluded", settings.excluded), ("caps", settings.caps), ("weighted", settings.coefficients)):
        for name in names:
            if name not in database.layers:
                raise PosttrainingError(f"{what}: {unknown('layer of the database', name, database.layers)}")
    costs = costs_of(target.kind, database, settings.facts)
    allowed = {name: _allowed(database, name, settings) for name in database.layers}
    budget = _budget(database, target, costs, allowed)
    table = {name: _errors(database, name, settings) for name in database.layers}
    options = [
        [Option(settings.coefficients.get(name, 1.0) * table[name][i], costs.layers[name][i]) for i in allowed[name]]
        for name in database.layers
    ]
    least = costs.fixed + math.fsum(min(option.cost for option in own) for own in options)
    room = budget - costs.fixed
    if not room >= math.fsum(min(option.cost for option in own) for own in options):
        raise PosttrainingError(_out_of_reach(database, target, costs, settings, budget, least))
    found = solvers[settings.solver](options, room)
    choice = {name: allowed[name][index] for name, index in zip(database.layers, found.indices, strict=True)}
    return Stitched(
        target=target,
        errors=settings.errors,
        solver=settings.solver,
        layers=tuple(_layer(database, name, choice[name], costs, settings) for name in database.layers),
        error=math.fsum(table[name][choice[name]] for name in database.layers),
        budget=budget,
        cost=costs.of(choice),
        dense=costs.dense,
        fixed=costs.fixed,
    )


def apply_(subject: Subject, database: Database, stitched: Stitched, *, masks: bool = True) -> None:
    """Write the chosen weights into the network, with shifts of biases, and masks where layers have zeros.

    masks     False: weights only
    raises    ArtifactError      an option cannot be read; the network is not changed
              PosttrainingError  the database is of another network
    """
    found = {
        layer.name: (database.load(layer.name, layer.option), database.bias(layer.name))
        for layer in stitched.layers
        if database.layers[layer.name].key
    }
    for name, (own, _) in found.items():
        if subject.layer(name).filter_shape != tuple(own.weight.shape):
            raise PosttrainingError(
                f"{name}: has the shape {subject.layer(name).filter_shape}, and {tuple(own.weight.shape)} in the "
                f"database {database.folder}, which is of another network."
            )
    for name, (own, bias) in found.items():
        if own.shift is not None:
            bias = own.shift if bias is None else bias + own.shift
        elif bias is None and subject.bias(name) is not None:
            bias = own.weight.new_zeros(len(own.weight))  # left by an option with a shift that was there before
        masked = masks and not bool(own.mask.all())
        subject.store_(name, own.weight, bias, own.mask if masked else None)


def _allowed(database: Database, name: str, settings: StitchSettings) -> list[int]:
    """The options that bounds leave; the dense one always."""
    rows = database.layers[name].options
    if name in settings.excluded:
        return [0]
    most = min(settings.cap, 1.0 - settings.floor, settings.caps.get(name, 1.0)) + 1e-9
    return [index for index, row in enumerate(rows) if index == 0 or row.level <= most]


def _budget(database: Database, target: Target, costs: Costs, allowed: Mapping[str, list[int]]) -> float:
    if target.kind == "sparsity":
        weights = {name: own.layer.weights for name, own in database.layers.items()}
        counted = [name for name in weights if target.base == "conv_linear" or len(allowed[name]) > 1]
        # As many weights go as the fraction says, up to the last bit of the product.
        zeros = math.ceil(target.value * sum(weights[name] for name in counted) - 1e-6)
        others = sum(weights[name] - int(costs.layers[name][0]) for name in weights if name not in counted)
        return float(sum(weights.values()) - zeros - others)
    return target.value * costs.dense if target.relative else target.value


def _errors(database: Database, name: str, settings: StitchSettings) -> list[float]:
    own = database.layers[name]
    if settings.errors == "output":
        return [row.error for row in own.options]
    if settings.errors == "absolute":
        if settings.facts.census is None:
            raise PosttrainingError("absolute errors need the census of the dense network, which has the positions.")
        scale = own.energy * settings.facts.census.layer(name).positions
        return [scale * row.error for row in own.options]
    if settings.errors == "loss":
        if settings.losses is None:
            raise PosttrainingError("errors of the loss need its measurements: secateur.posttraining.measure_losses.")
        return settings.losses.of(name, [row.error for row in own.options])
    raise PosttrainingError(unknown("kind of error", settings.errors, get_args(Errors)))


def _layer(database: Database, name: str, option: int, costs: Costs, settings: StitchSettings) -> StitchedLayer:
    own = database.layers[name]
    row, note = own.options[option], settings.excluded.get(name, own.skipped)
    cost, dense = costs.layers[name][option], costs.layers[name][0]
    return StitchedLayer(
        name, option, row.pattern, row.level, row.zeros, own.layer.weights, row.error, cost, dense, note
    )  # fmt: skip


def _out_of_reach(
    database: Database, target: Target, costs: Costs, settings: StitchSettings, budget: float, least: float
) -> str:
    held = [name for name in database.layers if name in settings.excluded or database.layers[name].skipped]
    held.sort(key=lambda name: -costs.layers[name][0])
    reasons = [f"{name} ({settings.excluded.get(name, database.layers[name].skipped)})" for name in held[:3]]
    more = f", and {len(held) - 3} more" if len(held) > 3 else ""
    dense = f" Dense are {', '.join(reasons)}{more}." if held else ""
    fixed = f", {_figure(target.kind, costs.fixed)} of them fixed" if costs.fixed else ""
    return (
        f"target {target} allows {_figure(target.kind, budget)}; the cheapest options come to "
        f"{_figure(target.kind, least)}{fixed}, with cap {settings.cap:g}.{dense} Prune those too, raise the cap, add "
        "sparser levels to the database, or ask for less."
    )


def _figure(kind: CostKind, value: float, *, unit: bool = True) -> str:
    """A cost as people write it."""
    if kind == "seconds":
        return f"{1e3 * value:.4g} ms" if unit else f"{value:.4g}"
    return f"{value:,.0f} {UNITS[kind]}" if unit else f"{value:,.0f}"
