"""What every option of every layer costs, and what costs the same whatever is chosen.

    sparsity, parameters   nonzeros                                 fixed: parameters that no layer holds
    macs                   nonzeros * positions                     fixed: work of weights that are no layer's
    bytes                  the smallest storage format, float32     fixed: 4 bytes for every other parameter
    seconds                t(zeros / weights), measured             fixed: everything in the network but these layers

Seconds are linear between measured levels, and those of the last level beyond it. Layers that were not measured are
part of the fixed seconds: no zero of theirs is worth anything.
"""

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from secateur.errors import PosttrainingError
from secateur.graph.census import Census
from secateur.posttraining.database import DENSE, Database, LayerOptions, Row
from secateur.registry import Registry, unknown
from secateur.sparsity import LayerSeconds

CostKind = Literal["sparsity", "parameters", "macs", "bytes", "seconds"]
UNITS: dict[CostKind, str] = {
    "sparsity": "nonzero weights",
    "parameters": "nonzero parameters",
    "macs": "MACs",
    "bytes": "bytes",
    "seconds": "seconds",
}


@dataclass(frozen=True)
class CostFacts:
    """What is known about the network besides its database.

    census     of the dense network: positions, and all parameters
    seconds    measured tables, one per pattern
    """

    census: Census | None = None
    seconds: Sequence[LayerSeconds] = ()


@dataclass(frozen=True)
class Costs:
    """Costs of one kind.

    layers    name -> cost of every option, in their order; the dense one is the first
    fixed     what is added whatever is chosen
    """

    kind: CostKind
    layers: Mapping[str, tuple[float, ...]]
    fixed: float

    @property
    def unit(self) -> str:
        return UNITS[self.kind]

    @property
    def dense(self) -> float:
        """Of the dense network."""
        return self.fixed + math.fsum(own[0] for own in self.layers.values())

    def of(self, choice: Mapping[str, int]) -> float:
        """Of a choice of options; layers that it does not name are dense."""
        return self.fixed + math.fsum(own[choice.get(name, 0)] for name, own in self.layers.items())


_Rule = Callable[[Database, CostFacts], tuple[dict[str, tuple[float, ...]], float]]
cost_rules: Registry[_Rule] = Registry("kind of cost")


def costs_of(kind: CostKind, database: Database, facts: CostFacts | None = None) -> Costs:
    """Costs of all options of `database`.

    raises    PosttrainingError  an unknown kind, or facts that it needs are missing
    """
    if kind not in get_args(CostKind) or kind not in cost_rules:
        raise PosttrainingError(unknown("kind of cost", kind, get_args(CostKind)))
    layers, fixed = cost_rules[kind](database, facts or CostFacts())
    return Costs(kind, layers, fixed)


@cost_rules.register("sparsity")
def _nonzeros(database: Database, facts: CostFacts) -> tuple[dict[str, tuple[float, ...]], float]:
    return _each(database, lambda own, row: own.layer.weights - row.zeros), 0.0


@cost_rules.register("parameters")
def _parameters(database: Database, facts: CostFacts) -> tuple[dict[str, tuple[float, ...]], float]:
    return _nonzeros(database, facts)[0], float(_other_parameters(database, facts, "parameters"))


@cost_rules.register("macs")
def _macs(database: Database, facts: CostFacts) -> tuple[dict[str, tuple[float, ...]], float]:
    census = _census(facts, "macs")
    positions = {name: census.layer(name).positions for name in database.layers}
    work = _each(database, lambda own, row: (own.layer.weights - row.zeros) * positions[own.layer.name])
    others = sum(layer.sparse_macs for layer in census.layers if layer.name not in database.layers)
    return work, float(others)


@cost_rules.register("bytes")
def _bytes(database: Database, facts: CostFacts) -> tuple[dict[str, tuple[float, ...]], float]:
    return _each(database, lambda own, row: row.bytes), 4.0 * _other_parameters(database, facts, "bytes")


@cost_rules.register("seconds")
def _seconds(database: Database, facts: CostFacts) -> tuple[dict[str, tuple[float, ...]], float]:
    if not facts.seconds:
        raise PosttrainingError(
            "a target in seconds needs measured times of the layers: secateur.pipeline.layer_seconds measures them."
        )
    tables = {table.pattern: table for table in facts.seconds}
    places = {table.where for table in facts.seconds}
    if len(places) > 1:
        raise PosttrainingError(f"tables of layer times are of different machines or settings: {', '.join(places)}.")
    measured = {name for table in facts.seconds for name in table.layers}

    def of(own: LayerOptions, row: Row) -> float:
        name = own.layer.name
        if name not in measured:
            return 0.0
        with_it = [table for table in facts.seconds if name in table.layers]
        dense = min(table.layers[name][0.0] for table in with_it)
        if row.pattern == DENSE:
            return dense
        if row.pattern not in tables:
            raise PosttrainingError(
                f"{name}: its options of pattern {row.pattern} have no measured times; there are tables of "
                f"{', '.join(tables)}."
            )
        times = tables[row.pattern].layers.get(name)
        return dense if times is None else seconds_at(times, row.zeros / own.layer.weights)

    return _each(database, of), min(table.rest for table in facts.seconds)


def seconds_at(times: Mapping[float, float], level: float) -> float:
    """Measured seconds of a layer at a level, linear between the measured ones, the outermost beyond them."""
    levels = sorted(times)
    if level <= levels[0]:
        return times[levels[0]]
    if level >= levels[-1]:
        return times[levels[-1]]
    after = bisect.bisect_right(levels, level)
    low, high = levels[after - 1], levels[after]
    share = (level - low) / (high - low)
    return (1 - share) * times[low] + share * times[high]


def _each(database: Database, of: Callable[[LayerOptions, Row], float]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(float(of(own, row)) for row in own.options) for name, own in database.layers.items()}


def _census(facts: CostFacts, kind: str) -> Census:
    if facts.census is None:
        raise PosttrainingError(f"a target in {kind} needs the census of the dense network.")
    return facts.census


def _other_parameters(database: Database, facts: CostFacts, kind: str) -> int:
    """Parameters that are weights of no layer in the database: biases, norms, embeddings."""
    return _census(facts, kind).parameters - sum(own.layer.weights for own in database.layers.values())
