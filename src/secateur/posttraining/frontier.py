"""Points along several targets from one database: what accuracy costs, as data.

Each point is a stitched network with its predicted costs of every kind that the facts allow, and whatever `evaluate`
measured on it. Targets out of reach are kept with the sentence that says how far one can go.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from secateur.errors import ArtifactError, PosttrainingError
from secateur.graph.table import text_table
from secateur.posttraining.costs import CostKind, costs_of
from secateur.posttraining.database import Database
from secateur.posttraining.stitch import StitchSettings, solve
from secateur.posttraining.stitched import Stitched
from secateur.posttraining.target import Target
from secateur.progress import track

FORMAT = 1


@dataclass(frozen=True)
class Point:
    """One network.

    costs      kind -> predicted cost; sparsity as a fraction, base conv_linear
    error      sum of the errors that were minimised
    figures    what was measured: top1, divergence, ...
    levels     layer -> level
    """

    target: Target
    costs: Mapping[str, float]
    error: float
    figures: Mapping[str, float]
    levels: Mapping[str, float]


@dataclass(frozen=True)
class Frontier:
    """Points in the order of their targets.

    dense            costs of the dense network
    missing          target -> why there is no point
    dense_figures    what was measured on the dense network
    """

    dense: Mapping[str, float]
    points: tuple[Point, ...]
    missing: Mapping[str, str]
    dense_figures: Mapping[str, float] = field(default_factory=dict[str, float])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, value: Any) -> "Frontier":
        """What `to_dict` wrote. raises ArtifactError when it is something else."""
        try:
            if value["format"] != FORMAT:
                raise ValueError(f"format {value['format']}")
            points = tuple(Point(**(point | {"target": Target(**point["target"])})) for point in value["points"])
            return cls(dict(value["dense"]), points, dict(value["missing"]), dict(value["dense_figures"]))
        except (KeyError, TypeError, ValueError, AttributeError, PosttrainingError) as error:
            raise ArtifactError(f"this is not a frontier: {type(error).__name__} {error}.") from error

    def __str__(self) -> str:
        kinds, names = list(self.dense), list(dict.fromkeys(name for point in self.points for name in point.figures))
        rows: list[tuple[str, ...]] = []
        if self.dense_figures:
            known = [f"{self.dense_figures[name]:.4g}" if name in self.dense_figures else "-" for name in names]
            rows.append(("dense", *(f"{self.dense[kind]:.6g}" for kind in kinds), "0", *known))
        rows += [
            (
                str(point.target),
                *(f"{point.costs[kind]:.6g}" for kind in kinds),
                f"{point.error:.4g}",
                *(f"{point.figures[name]:.4g}" if name in point.figures else "-" for name in names),
            )
            for point in self.points
        ]
        lines = [text_table(("target", *kinds, "error", *names), rows, left=1)] if rows else []
        return "\n".join([*lines, *(f"{target}: {reason}" for target, reason in self.missing.items())])


def frontier(
    database: Database,
    targets: Sequence[Target],
    evaluate: Callable[[Stitched], Mapping[str, float]] | None = None,
    settings: StitchSettings | None = None,
) -> Frontier:
    """A point for each target.

    evaluate    called with every stitched network: writes it into a network, corrects it, measures it
    """
    settings = settings or StitchSettings()
    kinds = _known_kinds(database, settings)
    points: list[Point] = []
    missing: dict[str, str] = {}
    with track(len(targets), "frontier") as progress:
        for target in targets:
            try:
                stitched = solve(database, target, settings=settings)
            except PosttrainingError as error:
                missing[str(target)] = str(error)
            else:
                costs = {kind: kinds[kind].of(stitched.choice) for kind in kinds} | {"sparsity": stitched.sparsity}
                figures = dict(evaluate(stitched)) if evaluate is not None else {}
                points.append(Point(target, costs, stitched.error, figures, stitched.levels))
            progress.advance()
    dense = {kind: kinds[kind].dense for kind in kinds} | {"sparsity": _dense_sparsity(database)}
    return Frontier(dense, tuple(points), missing)


def _known_kinds(database: Database, settings: StitchSettings):
    """Costs of all kinds that the facts suffice for."""
    facts = settings.facts
    known = ["sparsity"]
    known += ["parameters", "macs", "bytes"] if facts.census is not None else []
    known += ["seconds"] if facts.seconds else []
    return {kind: costs_of(kind, database, facts) for kind in get_args(CostKind) if kind in known}


def _dense_sparsity(database: Database) -> float:
    weights = sum(own.layer.weights for own in database.layers.values())
    return sum(own.options[0].zeros for own in database.layers.values()) / weights if weights else 0.0
