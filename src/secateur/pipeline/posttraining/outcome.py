"""What sparsity after training has made, of a torch network and of an ONNX file alike."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import nn

from secateur.errors import ArtifactError
from secateur.pipeline.posttraining.agreement import Agreement
from secateur.pipeline.record import RunRecord
from secateur.posttraining.stitched import Stitched
from secateur.sparsity import SparsityPlan
from secateur.sparsity.parts import parts_table
from secateur.training import Accuracy


@dataclass(frozen=True)
class Sparsified:
    """The result in a folder; printed, every layer and how near the network is to the dense one.

    plans        one for each pattern in use
    stitched     how levels were chosen, where they came from the database
    agreement    with the dense network, on held-out images
    steps        what followed the zeros (tuning ...), as the rows of `Steps`
    accuracy     on labelled test images, and `dense_accuracy` before; None without labels
    record       of the run, and network the sparse network, masks and all, of a torch network
    """

    folder: Path
    plans: tuple[SparsityPlan, ...]
    agreement: Agreement
    stitched: Stitched | None = None
    dense_accuracy: Accuracy | None = None
    accuracy: Accuracy | None = None
    notes: tuple[str, ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()
    record: RunRecord | None = field(default=None, repr=False)
    network: nn.Module | None = field(default=None, repr=False)

    def __str__(self) -> str:
        if self.stitched is not None:
            table = str(self.stitched)
        else:
            table = str(self.plans[0]) if len(self.plans) == 1 else parts_table(self.plans) if self.plans else ""
        lines = [table, *_steps(self.steps), str(self.agreement)]
        if self.dense_accuracy is not None:
            lines.append(f"dense   {self.dense_accuracy}")
        if self.accuracy is not None:
            lines.append(f"sparse  {self.accuracy}")
        return "\n".join(line for line in (*lines, *self.notes) if line)

    @classmethod
    def from_dict(cls, folder: Path, value: Any, **more: Any) -> "Sparsified":
        """From plain JSON: plans, levels, agreement, and perhaps accuracies. raises ArtifactError when it is damaged"""
        try:
            accuracies = {
                key: Accuracy(**value[key]) for key in ("dense_accuracy", "accuracy") if value.get(key) is not None
            }
            return cls(
                folder,
                tuple(SparsityPlan.from_dict(plan) for plan in value["plans"]),
                Agreement(**value["agreement"]),
                None if value.get("levels") is None else Stitched.from_dict(value["levels"]),
                notes=tuple(map(str, value.get("notes", ()))),
                steps=tuple(_checked(row) for row in value.get("steps") or ()),
                **accuracies,
                **more,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{folder}: the result is damaged: {type(error).__name__} {error}.") from error


def sparsified_by(record: RunRecord, network: nn.Module) -> Sparsified:
    """What a run with a stage `posttraining` made. raises ArtifactError for another run, or a damaged one"""
    stages = record.results("posttraining")
    if not stages:
        raise ArtifactError(f"{record.folder}: is no run of sparsity after training.")
    value = dict(stages[-1])
    accuracies = record.results("evaluate")
    if accuracies:
        value |= {"dense_accuracy": accuracies[0], "accuracy": accuracies[-1]}
    else:
        value["notes"] = [NO_LABELS]
    return Sparsified.from_dict(record.folder, value, record=record, network=network)


def _checked(row: Any) -> Mapping[str, Any]:
    """raises KeyError, TypeError, ValueError for what is no row of `Steps`"""
    return {**row, "step": str(row["step"]), "distance": float(row["distance"]), "kept": bool(row["kept"])}


def _steps(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for before, row in pairwise(rows):
        tried = row.get("tried", row["distance"])
        yield f"{row['step']}: KL distance {before['distance']:.4g} -> {tried:.4g}{'' if row['kept'] else ', undone'}"


NO_LABELS = "no labels, so no accuracy was measured; labelled test images (--data) give it"
