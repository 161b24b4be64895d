"""A network for a target, put together from the database: one option for every layer.

    min sum_l a_l e[l, k_l]    subject to    fixed + sum_l c[l, k_l] <= C        a_l = 1 unless it is searched for

    errors    output     ||(W - W^) X||^2 / ||W X||^2 of every layer, the default
              absolute   the same times the layer's energy and positions: squared error of one image
              loss       divergence of the network from the dense one when this layer alone is replaced

Source: SPDY (Frantar & Alistarh 2022) for the formulation; measured seconds of our own engine are our own design.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

from secateur.errors import PosttrainingError
from secateur.posttraining.costs import CostFacts, Costs, costs_of
from secateur.posttraining.database import Database
from secateur.posttraining.dynamic import Option, solvers
from secateur.posttraining.losses import Losses
from secateur.posttraining.stitched import Errors, Stitched, StitchedLayer
from secateur.posttraining.subject import Subject
from secateur.posttraining.target import Target, cost_text
from secateur.registry import unknown

CAP = 0.99


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
    fixed = f", {cost_text(target.kind, costs.fixed)} of them fixed" if costs.fixed else ""
    return (
        f"target {target} allows {cost_text(target.kind, budget)}; the cheapest options come to "
        f"{cost_text(target.kind, least)}{fixed}, with cap {settings.cap:g}.{dense} Prune those too, raise the cap, "
        "add sparser levels to the database, or ask for less."
    )
