"""An order plan: which channels stand where after reordering, and what a pattern keeps of them, as plain data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from secateur.errors import ArtifactError
from secateur.graph.table import percent, text_table


@dataclass(frozen=True)
class OrderedGroup:
    """The channels that some layers share, and their new order.

    layers    whose pattern was looked at: those that read the channels for N:M, those that make them for blocks
    order     channel order[i] comes to place i; empty where they stay as they are
    before    magnitude (sum of |w|) that the pattern keeps of these layers;  after: in the new order
    total     magnitude of these layers
    remark    how the order was found, or why there is none
    """

    name: str
    layers: tuple[str, ...]
    size: int
    order: tuple[int, ...]
    before: float
    after: float
    total: float
    remark: str


@dataclass(frozen=True)
class OrderPlan:
    """The new order of every group of channels that was looked at.

    pattern    its spec;  rule: what was asked for, in a word
    """

    pattern: str
    rule: str
    groups: tuple[OrderedGroup, ...]

    @property
    def reordered(self) -> tuple[OrderedGroup, ...]:
        return tuple(group for group in self.groups if group.order)

    @property
    def gained(self) -> float:
        """Magnitude kept in the new orders and not in the old ones."""
        return sum(group.after - group.before for group in self.groups)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        groups = [asdict(group) | {"layers": list(group.layers), "order": list(group.order)} for group in self.groups]
        return {"pattern": self.pattern, "rule": self.rule, "groups": groups}

    @classmethod
    def from_dict(cls, value: Any) -> "OrderPlan":
        """The plan that `to_dict` wrote. raises ArtifactError when it is something else."""
        try:
            return cls(str(value["pattern"]), str(value["rule"]), tuple(_group(entry) for entry in value["groups"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"this is not an order plan: {type(error).__name__} {error}.") from error

    def __str__(self) -> str:
        headers = ("channels", "layers", "remark", "count", "kept % before", "after", "of |w|")
        rows = [
            (
                group.name,
                _listed(group.layers),
                group.remark,
                str(group.size),
                percent(group.before, group.total),
                percent(group.after, group.total),
                f"{group.total:,.1f}",
            )
            for group in self.groups
        ]
        table = text_table(headers, rows, left=3)
        count = f"{len(self.reordered)} of {len(self.groups)} groups of channels in a new order"
        return f"{table}\npattern {self.pattern}, {self.rule}: {count}, {self.gained:+,.2f} of |w| kept"


def _group(entry: Mapping[str, Any]) -> OrderedGroup:
    values = dict(entry)
    values["layers"] = tuple(str(name) for name in values["layers"])
    values["order"] = tuple(int(place) for place in values["order"])
    group = OrderedGroup(**values)
    if group.order and sorted(group.order) != list(range(group.size)):
        raise ValueError(f"the order of {group.name} does not name each of its {group.size} channels once")
    return group


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
