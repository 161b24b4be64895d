"""Which residual branches go, as plain data: JSON, replays on a fresh network, prints as a table."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from torch import nn

from secateur.channels.branches import Branch, Rest, drop_branches_
from secateur.channels.plan_fields import number, pair, text, whole
from secateur.errors import ArtifactError
from secateur.graph.table import percent, text_table


@dataclass(frozen=True)
class BranchPlan:
    """The branches that go, in the order in which they were chosen.

    target       fraction to remove of `base`, macs or parameters; 0 where only what adds nothing goes
    losses       how far the network is from the dense one after each removal; empty where nothing was measured
    parameters, macs    of the whole network (before, after)
    """

    target: float
    base: str
    branches: tuple[Branch, ...]
    losses: tuple[float, ...]
    parameters: tuple[int, int]
    macs: tuple[int, int]

    @classmethod
    def of_none(cls, target: float, base: str, parameters: int, macs: int) -> "BranchPlan":
        """The plan of a network of this size that takes nothing yet."""
        return cls(target, base, (), (), (parameters, parameters), (macs, macs))

    def without(self, branch: Branch, loss: float | None = None) -> "BranchPlan":
        """The plan that takes one more branch; `loss` where it was measured."""
        (p0, p1), (m0, m1) = self.parameters, self.macs
        return replace(
            self,
            branches=(*self.branches, branch),
            losses=self.losses if loss is None else (*self.losses, loss),
            parameters=(p0, p1 - branch.parameters),
            macs=(m0, m1 - branch.macs),
        )

    def share(self, branch: Branch) -> float:
        """The part of the whole network's `base` that one branch holds."""
        return branch.macs / self.macs[0] if self.base == "macs" else branch.parameters / self.parameters[0]

    @property
    def removed(self) -> float:
        """The part of `base` that goes."""
        return sum(map(self.share, self.branches))

    @property
    def loss(self) -> float:
        """How far the network without all of them is from the dense one; 0 where none goes."""
        return self.losses[-1] if self.losses else 0.0

    @property
    def rests(self) -> Mapping[str, Rest]:
        """What `drop_branches_` takes."""
        return {branch.name: branch.rest for branch in self.branches}

    def apply_(self, model: nn.Module) -> None:
        """Take the branches out of `model`. raises SparsityError for another network."""
        drop_branches_(model, self.rests)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Any) -> "BranchPlan":
        """The plan that `to_dict` wrote. raises ArtifactError when it is something else."""
        try:
            branches = tuple(_branch(branch) for branch in value["branches"])
            return cls(
                target=number(value["target"]),
                base=text(value["base"]),
                branches=branches,
                losses=tuple(number(loss) for loss in value["losses"]),
                parameters=pair(value["parameters"]),
                macs=pair(value["macs"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"this is not a plan of branches: {type(error).__name__} {error}.") from error

    def __str__(self) -> str:
        headers = ("block", "layers", "what stays", "parameters", "MACs", "divergence")
        losses = [f"{loss:.3g}" for loss in self.losses] or [""] * len(self.branches)
        lines = [
            (branch.name, ", ".join(branch.layers), branch.rest, f"{branch.parameters:,}", f"{branch.macs:,}", loss)
            for branch, loss in zip(self.branches, losses, strict=True)
        ]
        (p0, p1), (m0, m1) = self.parameters, self.macs
        lines.append(("total", "", "", f"{p0:,} > {p1:,}", f"{m0:,} > {m1:,}", ""))
        return (
            f"{text_table(headers, lines, left=3, total=True)}\n"
            f"removed: {len(self.branches)} branches, {percent(m0 - m1, m0)} % of the MACs, "
            f"{percent(p0 - p1, p0)} % of the parameters"
        )


def _branch(value: Any) -> Branch:
    rest = value["rest"]
    if rest not in get_args(Rest):
        raise ValueError(f"no block leaves {rest!r}")
    layers = tuple(text(layer) for layer in value["layers"])
    return Branch(text(value["name"]), rest, layers, whole(value["parameters"]), whole(value["macs"]))
