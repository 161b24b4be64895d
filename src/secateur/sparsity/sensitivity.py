"""What the one-layer analysis found: how much worse a network gets when one layer alone is pruned.

    cost of layer l at level s   drop of top-1 in points, rise of the loss, or relative change of the output

The analysis that fills it is `secateur.pipeline.sensitivity`.
"""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from secateur.errors import ArtifactError, SparsityError
from secateur.files import read_json
from secateur.graph.table import text_table
from secateur.registry import unknown

Measure = Literal["top1", "top5", "loss", "output_error"]
FORMAT = 1


@dataclass(frozen=True)
class SensitivityRow:
    """The network with one layer pruned to one level.

    sparsity        share of the layer's weights that were zero; whole groups go, so it may differ from the level
    top1, top5      percent; None without labels
    loss            mean cross-entropy; None without labels
    output_error    |y - y_pruned|^2 / |y|^2 over all outputs of the network
    """

    layer: str
    level: float
    sparsity: float
    top1: float | None
    top5: float | None
    loss: float | None
    output_error: float


@dataclass(frozen=True)
class SensitivityTable:
    """Every layer at every level, and the dense network.

    measure    what costs are measured in
    images     how many were looked at
    """

    measure: Measure
    pattern: str
    criterion: str
    images: int
    dense: SensitivityRow
    rows: tuple[SensitivityRow, ...]
    skipped: Mapping[str, str]

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.layer for row in self.rows))

    def costs(self, layer: str) -> dict[float, float]:
        """Level -> cost, from level 0 up; never below 0, where pruning helped. raises SparsityError."""
        found = {row.level: max(self._cost(row), 0.0) for row in self.rows if row.layer == layer}
        if not found:
            raise SparsityError(unknown("layer of the sensitivity table", layer, self.layers))
        return dict(sorted(({0.0: 0.0} | found).items()))

    def _cost(self, row: SensitivityRow) -> float:
        before, after = (cast(float, getattr(row, self.measure)) for row in (self.dense, row))
        return before - after if self.measure in ("top1", "top5") else after - before

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"format": FORMAT, **asdict(self), "rows": [asdict(row) for row in self.rows]}

    @classmethod
    def from_dict(cls, value: Any) -> "SensitivityTable":
        """The table that `to_dict` wrote. raises ArtifactError when it is something else."""
        try:
            if value["format"] != FORMAT or value["measure"] not in get_args(Measure):
                raise ValueError(f"format {value['format']}, measure {value['measure']}")
            return cls(
                measure=value["measure"],
                pattern=str(value["pattern"]),
                criterion=str(value["criterion"]),
                images=int(value["images"]),
                dense=row_of(value["dense"], value["measure"]),
                rows=tuple(row_of(row, value["measure"]) for row in value["rows"]),
                skipped={str(name): str(reason) for name, reason in value["skipped"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"this is not a sensitivity table: {type(error).__name__} {error}.") from error

    @classmethod
    def read(cls, path: Path | str) -> "SensitivityTable":
        """The table in `sensitivity.json` of an analysis. raises ArtifactError."""
        try:
            return cls.from_dict(read_json(path))
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error

    def to_csv(self) -> str:
        """One line per layer and level; figures unrounded, empty where there is none."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([field.name for field in fields(SensitivityRow)])
        for row in (replace(self.dense, layer="dense"), *self.rows):
            # A spreadsheet would compute a name that begins like a formula.
            name = f"'{row.layer}" if row.layer.startswith(("=", "+", "-", "@")) else row.layer
            writer.writerow(asdict(replace(row, layer=name)).values())
        return text.getvalue()

    def __str__(self) -> str:
        """Layers by how early they hurt: the most sensitive first."""
        levels = sorted({row.level for row in self.rows if row.level > 0})
        shown = [level for level in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95) if level in levels] or levels[-6:]
        unit = {"top1": "points of top-1 lost", "top5": "points of top-5 lost", "loss": "rise of the loss"}
        form = ".2f" if self.measure in ("top1", "top5") else ".4f"
        ordered = sorted(self.layers, key=lambda layer: -sum(self.costs(layer).values()))
        table = [
            (layer, *(format(costs[level], form) if level in costs else "-" for level in shown))
            for layer in ordered
            for costs in (self.costs(layer),)
        ]
        head = ("layer", *(f"{100 * level:g} %" for level in shown))
        what = unit.get(self.measure, "relative change of the output")
        lines = [text_table(head, table, left=1)] if table else []
        lines.append(
            f"{what} when one layer alone is pruned ({self.pattern}, {self.criterion}); {self.images} images, "
            f"{len(table)} layers, {len(self.skipped)} left out"
        )
        return "\n".join(lines)


def row_of(value: Any, measure: Measure) -> SensitivityRow:
    """A row from JSON. raises KeyError, TypeError, ValueError."""
    row = SensitivityRow(**value)
    numbers = [row.level, row.sparsity, row.output_error, getattr(row, measure)]
    numbers += [figure for figure in (row.top1, row.top5, row.loss) if figure is not None]
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
        raise ValueError(f"a row of {row.layer} has a figure that is not a number")
    if not 0.0 <= row.level <= 1.0:
        raise ValueError(f"a level of {row.level}")
    return row
