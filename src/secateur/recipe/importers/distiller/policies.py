"""Policies of a Distiller schedule: which instance acts in which epochs."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from secateur.recipe.document import Location
from secateur.recipe.importers.reading import Fields, Reading
from secateur.registry import unknown

KINDS = ("pruner", "regularizer", "quantizer", "lr_scheduler", "extension")
SECTIONS: dict[str, str] = dict(
    zip(KINDS, ("pruners", "regularizers", "quantizers", "lr_schedulers", "extensions"), strict=True)
)
# Training of more epochs than this is a mistake, and would make long lists here.
MAX_EPOCHS = 10_000


@dataclass(frozen=True)
class Policy:
    """An instance at work.

    epochs    those in which it acts, rising
    start     first of them
    end       exclusive
    every     distance between them; 0 where they are a list without one
    order     place in the file: at the same epoch the earlier one acts first
    args      where the file has arguments for the instance
    """

    kind: str
    instance: str
    epochs: tuple[int, ...]
    start: int
    end: int
    every: int
    order: int
    at: Location
    args: Location | None = None


def read_policies(reading: Reading, value: dict[str, Any]) -> tuple[Policy, ...]:
    """All policies, in the order of the file. raises RecipeError."""
    listed = value.get("policies")
    if not isinstance(listed, list) or not listed:
        reading.fail(("policies",), "'policies' is a list of one policy or more.")
    return tuple(_policy(reading, value, index) for index in range(len(listed)))


def _policy(reading: Reading, value: dict[str, Any], index: int) -> Policy:
    at: Location = ("policies", index)
    fields = reading.fields(at, f"policy {index + 1}")
    kinds = [kind for kind in KINDS if kind in fields]
    if len(kinds) != 1:
        _ = [key in fields for key in ("epochs", "starting_epoch", "ending_epoch", "frequency")]
        fields.finish()
        fields.fail(None, f"policy {index + 1} names one of {', '.join(KINDS)}, found {', '.join(kinds) or 'none'}.")
    kind = kinds[0]
    inner = fields.section(kind, f"policy {index + 1}")
    instance = inner.text("instance_name")
    known = value.get(SECTIONS[kind]) or {}
    if not isinstance(known, dict) or instance not in known:
        names = [str(name) for name in known] if isinstance(known, dict) else []
        inner.fail("instance_name", unknown(f"instance of {SECTIONS[kind]}", instance, names))
    args = (*inner.at, "args") if "args" in inner and inner.raw("args") is not None else None
    inner.finish()
    epochs, start, end, every = _timing(fields)
    fields.finish()
    return Policy(kind, instance, epochs, start, end, every, index, at, args)


def _timing(fields: Fields) -> tuple[tuple[int, ...], int, int, int]:
    range_keys = ("starting_epoch", "ending_epoch", "frequency")
    given = [key for key in range_keys if key in fields]
    if "epochs" in fields:
        if given:
            fields.fail("epochs", f"'epochs' and '{given[0]}' contradict each other; give one of both.")
        listed = fields.numbers("epochs")
        if not listed or any(epoch != int(epoch) or not 0 <= epoch < MAX_EPOCHS for epoch in listed):
            fields.fail("epochs", f"'epochs' is a list of epochs from 0 to {MAX_EPOCHS - 1}.")
        epochs = tuple(sorted({int(epoch) for epoch in listed}))
        gaps = {after - before for before, after in pairwise(epochs)}
        return epochs, epochs[0], epochs[-1] + 1, gaps.pop() if len(gaps) == 1 else int(len(epochs) == 1)
    start, end = fields.whole("starting_epoch"), fields.whole("ending_epoch")
    every = fields.whole("frequency", low=1)
    if end > MAX_EPOCHS:
        fields.fail("ending_epoch", f"'ending_epoch' is at most {MAX_EPOCHS}, found {end}.")
    if start >= end:
        fields.fail("ending_epoch", f"'ending_epoch' ({end}) lies after 'starting_epoch' ({start}); it is exclusive.")
    if every > end - start:
        fields.fail("frequency", f"'frequency' ({every}) is at most the {end - start} epochs of the policy.")
    return tuple(range(start, end, every)), start, end, every
