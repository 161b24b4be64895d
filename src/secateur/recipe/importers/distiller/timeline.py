"""A Distiller schedule over its epochs becomes stages, one training after the other.

cut       where a FilterRemover acts, where a second pruner takes over the same layers, where a regulariser begins
          or ends
stretch   what lies between two cuts: one training. Pruners that act in it are its parts, with their epochs counted
          from its beginning
at a cut  what pruners listed before the remover do in that very epoch comes first, at once; then the network is
          thinned; then the next training begins
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from secateur.recipe.importers.distiller.policies import Policy
from secateur.recipe.importers.distiller.pruners import PrunerPart
from secateur.recipe.importers.distiller.quantizers import Quantizing
from secateur.recipe.importers.distiller.rates import Rate, decay_of
from secateur.recipe.importers.reading import Reading

# These choose anew in every epoch from what is there, so that they can go on after a cut. Sensitivities cannot: what
# they multiply is measured once, and for splicing they grow with the epochs.
DIVISIBLE = ("fixed", "threshold", "random")


@dataclass(frozen=True)
class Pruning:
    """A pruner at work."""

    policy: Policy
    parts: tuple[PrunerPart, ...]

    def shares_layers(self, other: "Pruning") -> bool:
        """Whether both may prune the same layer."""
        mine = {name for part in self.parts for name in part.layers}
        theirs = {name for part in other.parts for name in part.layers}
        return not mine or not theirs or bool(mine & theirs)


@dataclass(frozen=True)
class Penalty:
    """A regulariser at work."""

    policy: Policy
    keys: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Timeline:
    """Everything that a schedule does, and when.

    removals    policies of extensions that thin the network
    quantizing  from the first epoch of its policy on, numbers are rounded
    epochs      of the whole run
    training    keys of every training but the rate
    """

    prunings: tuple[Pruning, ...]
    penalties: tuple[Penalty, ...]
    rates: tuple[Rate, ...]
    removals: tuple[Policy, ...]
    epochs: int
    learning_rate: float
    training: dict[str, Any]
    quantizing: Quantizing | None = None


def stages_of(reading: Reading, line: Timeline) -> list[dict[str, Any]]:
    """The stages of a run from epoch 0 on. raises RecipeError for what cannot be cut."""
    _check_overlaps(reading, line)
    _check_quantizing(reading, line)
    _check_penalties(reading, line)
    removals = {epoch: policy for policy in reversed(line.removals) for epoch in policy.epochs}
    _note_last_removal(reading, line, removals)
    cuts = _cuts(reading, line, removals) | {line.epochs: "the run ends"}
    stages: list[dict[str, Any]] = []
    start = 0
    for cut in sorted(cuts):
        if cut > start:
            stages.append(_stretch(reading, line, removals, cuts, start, cut, bool(stages)))
        if cut in removals:
            parts = _at_once(line, removals[cut], cut)
            if parts:
                stages.append({"stage": "sparsify", "parts": parts, "training": {"epochs": 0}})
            stages.append({"stage": "thin", "shift": "zero"})
        start = cut
    trained = [stage for stage in stages if stage.get("training", {}).get("epochs")]
    if trained:
        # Rounding makes other zeros in every epoch; they say nothing about which one is best.
        trained[-1]["training"]["keep"] = "best_top1" if trained[-1]["stage"] == "quantize" else "sparsest"
    return stages


def _cuts(reading: Reading, line: Timeline, removals: dict[int, Policy]) -> dict[int, str]:
    """Epochs before which one training ends and the next begins, each with the reason as a clause."""
    cuts = {epoch: "the network is thinned" for epoch in removals if epoch <= line.epochs}
    for index, later in enumerate(line.prunings):
        before = [earlier for earlier in line.prunings[:index] if earlier.shares_layers(later)]
        if before:
            epoch = _between(line, before, later)
            cuts.setdefault(
                epoch, f"'{later.policy.instance}' takes over layers of '{before[-1].policy.instance}' there"
            )
    for penalty in line.penalties:
        for edge in (penalty.policy.start, penalty.policy.end):
            inside = [p for p in line.prunings if _spans(p, edge)]
            if inside:
                reading.note(
                    penalty.policy.at,
                    f"'{penalty.policy.instance}' begins or ends in epoch {edge}, while '{inside[0].policy.instance}' "
                    "prunes; it is imported as acting during all of that training.",
                )
            else:
                cuts.setdefault(edge, f"'{penalty.policy.instance}' begins or ends there")
    if line.quantizing is not None:
        start = line.quantizing.policy.start
        cuts = {cut: why for cut, why in cuts.items() if cut <= start}
        cuts.setdefault(start, "numbers are rounded from there on")
    return {cut: why for cut, why in cuts.items() if 0 <= cut < line.epochs}


def _between(line: Timeline, before: Sequence[Pruning], later: Pruning) -> int:
    """Where to cut so that a pruner can follow others: at its start, or earlier where that would divide a third one."""
    start = later.policy.start
    free = max((p.policy.epochs[-1] + 1 for p in before if p.policy.epochs[-1] < start), default=start)
    return next((cut for cut in range(start, free - 1, -1) if not any(_spans(p, cut) for p in line.prunings)), start)


def _spans(pruning: Pruning, epoch: int) -> bool:
    """Whether a cut before this epoch would divide what cannot be divided."""
    return pruning.policy.start < epoch <= pruning.policy.epochs[-1] and not _divisible(pruning)


def _check_penalties(reading: Reading, line: Timeline) -> None:
    """A penalty acts in every epoch of a training."""
    for penalty in line.penalties:
        policy = penalty.policy
        if policy.epochs != tuple(range(policy.start, policy.end)):
            listed = ", ".join(str(epoch) for epoch in policy.epochs[:4]) + (", ..." if len(policy.epochs) > 4 else "")
            reading.fail(
                policy.at,
                f"'{policy.instance}' acts in epochs {listed} of {policy.start} to {policy.end - 1}, but a penalty "
                "acts in every epoch here; give it frequency 1, or a policy for each run of epochs.",
            )


def _note_last_removal(reading: Reading, line: Timeline, removals: dict[int, Policy]) -> None:
    if line.epochs in removals:
        policy = removals[line.epochs]
        reading.note(
            policy.at,
            f"'{policy.instance}' acts in epoch {line.epochs}, which a run of {line.epochs} epochs does not reach; "
            "here it thins the result.",
        )


def _check_quantizing(reading: Reading, line: Timeline) -> None:
    """Once numbers are rounded, nothing is removed any more, and they are rounded to the end."""
    if line.quantizing is None:
        return
    policy = line.quantizing.policy
    for other in (*(pruning.policy for pruning in line.prunings), *line.removals):
        if other.epochs[-1] >= policy.start:
            reading.fail(
                other.at,
                f"'{other.instance}' removes weights in epoch {other.epochs[-1]}, where '{policy.instance}' quantizes "
                f"since epoch {policy.start}; let it end before.",
            )
    if policy.end < line.epochs:
        reading.note(policy.at, f"'{policy.instance}' quantizes to the end of the run, not to epoch {policy.end}.")


def _check_overlaps(reading: Reading, line: Timeline) -> None:
    for index, later in enumerate(line.prunings):
        for earlier in line.prunings[:index]:
            ends = earlier.policy.epochs[-1]
            if earlier.shares_layers(later) and not (
                ends < later.policy.start or later.policy.epochs[-1] < earlier.policy.start
            ):
                reading.fail(
                    later.policy.at,
                    f"the pruners '{earlier.policy.instance}' and '{later.policy.instance}' contradict each other: "
                    "both prune the same layers in the same epochs.",
                )


def _stretch(
    reading: Reading,
    line: Timeline,
    removals: dict[int, Policy],
    cuts: dict[int, str],
    start: int,
    end: int,
    later: bool,
) -> dict[str, Any]:
    """The training of the epochs start..end-1, which are neighbours among the cuts."""
    training = {"epochs": end - start, **line.training, **decay_of(reading, line.rates, line.learning_rate, start, end)}
    for pruning in line.prunings:
        _check_whole(reading, pruning.policy, cuts, start, end, _divisible(pruning))
    parts = [part for pruning in line.prunings for part in _parts(pruning, removals.get(start), start, end)]
    penalties = [
        keys
        for penalty in line.penalties
        if penalty.policy.start < end and penalty.policy.end > start
        for keys in penalty.keys
    ]
    regularize = {"regularize": penalties} if penalties else {}
    if line.quantizing is not None and start >= line.quantizing.policy.start:
        return {"stage": "quantize", "method": "qat", "qat": line.quantizing.keys, **regularize, "training": training}
    if parts:
        return {"stage": "sparsify", "parts": parts, **regularize, "training": training}
    if later or penalties:
        return {"stage": "finetune", **regularize, "training": training}
    return {"stage": "train", "training": training}


def _check_whole(reading: Reading, policy: Policy, cuts: dict[int, str], start: int, end: int, divisible: bool) -> None:
    """raises    RecipeError  a pruner that cannot be divided acts before a cut and behind it"""
    if divisible or not any(start <= epoch < end for epoch in policy.epochs):
        return
    if policy.start < start or policy.epochs[-1] >= end:
        edge = start if policy.start < start else end
        reading.fail(
            policy.at,
            f"'{policy.instance}' prunes from epoch {policy.start} to {policy.end}, but in epoch {edge} the training "
            f"is cut: {cuts[edge]}. Let one of both end or begin elsewhere.",
        )


def _parts(pruning: Pruning, removal: Policy | None, start: int, end: int) -> list[dict[str, Any]]:
    """What a pruner does in the epochs start..end-1, counted from start."""
    policy = pruning.policy
    epochs = [epoch for epoch in policy.epochs if start <= epoch < end]
    if removal is not None and policy.order < removal.order and _divisible(pruning):
        epochs = [epoch for epoch in epochs if epoch != start]  # done before the removal
    if not epochs:
        return []
    return [{**part.keys, "schedule": _schedule(part, policy, epochs, start, end)} for part in pruning.parts]


def _schedule(part: PrunerPart, policy: Policy, epochs: Sequence[int], start: int, end: int) -> dict[str, Any]:
    if part.schedule["kind"] == "fixed":
        return {**part.schedule, "at": [epoch - start for epoch in epochs]}
    last = min(policy.end, end) - start
    return {**part.schedule, "start": epochs[0] - start, "end": last, "every": policy.every}


def _at_once(line: Timeline, removal: Policy, epoch: int) -> list[dict[str, Any]]:
    """What pruners listed before a removal do in its epoch."""
    return [
        {**part.keys, "schedule": {"kind": "one_shot"}}
        for pruning in line.prunings
        if pruning.policy.order < removal.order and epoch in pruning.policy.epochs and _divisible(pruning)
        for part in pruning.parts
        if part.schedule["kind"] == "fixed"
    ]


def _divisible(pruning: Pruning) -> bool:
    return all(part.schedule["kind"] in DIVISIBLE and not part.schedule.get("sensitivities") for part in pruning.parts)
