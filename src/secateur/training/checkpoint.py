"""Checkpoints: everything that the rest of a run depends on, in one file without pickle.

A checkpoint is a safetensors file. Its tensors are the model's state (masks included), the optimiser's and the hooks';
its metadata is one JSON text with the place in the run, the running sums of the epoch, the history and a
description of the run, and a digest of all of it. Random numbers need no state: the loop derives them from
(seed, step, process) at every step, and the images' order and augmentation come from (seed, epoch, image).

A file that cannot be trusted is never skipped silently: it stops the run with a sentence that names it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor, nn

from secateur.errors import TrainingError
from secateur.files import atomic_path
from secateur.training.history import History
from secateur.training.hooks import Hook, restore_states_, states
from secateur.training.optimizer import load_optimizer_tensors_, optimizer_tensors

FORMAT, VERSION = "secateur training checkpoint", 1
MODEL, OPTIMIZER, HOOKS = "model.", "optimizer.", "hooks."
EMPTY = History()


@dataclass(frozen=True)
class Place:
    """Where a run stands.

    epoch, batch                    the next batch to train on, both from 0
    loss_sum, correct, images       sums over the epoch's batches so far, all processes together
    seconds                         spent in this epoch so far
    history                         the epochs that are complete
    finished                        nothing is left to do
    """

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    images: int = 0
    seconds: float = 0.0
    history: History = EMPTY
    finished: bool = False


def save_checkpoint(
    path: Path,
    place: Place,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    run: Mapping[str, Any],
    hooks: tuple[Hook, ...] = (),
) -> None:
    """Write a checkpoint, whole or not at all. raises DiskError."""
    tensors = {MODEL + name: value for name, value in model.state_dict().items()}
    tensors |= {OPTIMIZER + name: value for name, value in optimizer_tensors(optimizer).items()}
    tensors |= {HOOKS + name: value for name, value in states(hooks).items()}
    # A copy of each: safetensors refuses tensors that share memory or are not contiguous.
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()
    }
    record = {
        "format": FORMAT,
        "version": VERSION,
        "place": {**vars(place), "history": place.history.to_dict()},
        "run": dict(run),
    }
    text = json.dumps(record, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, {"secateur": text, "sha256": _digest(tensors, text)}))


def load_checkpoint_(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    run: Mapping[str, Any],
    hooks: tuple[Hook, ...] = (),
) -> Place:
    """Bring `model`, `optimizer` and `hooks` to where the checkpoint stands.

    returns   its place, or the beginning when there is no such file
    raises    TrainingError  a damaged file, or one of another run or model; nothing has been changed then
    """
    if not path.exists():
        return Place()
    tensors, record = _read(path)
    place = _place(path, record)
    _check_same_run(path, place, record.get("run"), run)
    weights = {name.removeprefix(MODEL): value for name, value in tensors.items() if name.startswith(MODEL)}
    memory = {name.removeprefix(OPTIMIZER): value for name, value in tensors.items() if name.startswith(OPTIMIZER)}
    _check_same_model(path, model, weights)
    try:
        load_optimizer_tensors_(optimizer, memory)
    except TrainingError as error:
        raise TrainingError(f"{path} belongs to another run: {error} {_remedy(path)}") from error
    model.load_state_dict(weights)
    restore_states_(
        hooks, {name.removeprefix(HOOKS): value for name, value in tensors.items() if name.startswith(HOOKS)}
    )
    return place


def digest_of(model: nn.Module) -> str:
    """SHA-256 of a model's state: equal exactly when all its tensors are."""
    return _digest({name: value.detach().cpu() for name, value in model.state_dict().items()})


def _remedy(path: Path) -> str:
    return f"Delete {path.name} to train from the beginning, or use another folder."


def _digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text, digest = metadata["secateur"], metadata["sha256"]
        record = json.loads(text)
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise TrainingError(f"{path} is damaged or no checkpoint ({error}). {_remedy(path)}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise TrainingError(f"{path} is no checkpoint of a training. {_remedy(path)}")
    if record.get("version") != VERSION:
        raise TrainingError(
            f"{path} has checkpoint version {record.get('version')}; this Secateur reads {VERSION}. {_remedy(path)}"
        )
    if digest != _digest(tensors, text):
        raise TrainingError(f"{path} is damaged: it does not have the digest written with it. {_remedy(path)}")
    return tensors, record


def _place(path: Path, record: Mapping[str, Any]) -> Place:
    try:
        values = dict(record["place"])
        return Place(**{**values, "history": History.from_dict(values["history"])})
    except (KeyError, TypeError, ValueError, TrainingError) as error:
        raise TrainingError(f"{path} is damaged: its place in the run is unreadable. {_remedy(path)}") from error


def _check_same_run(path: Path, place: Place, stored: Any, wanted: Mapping[str, Any]) -> None:
    stored = stored if isinstance(stored, dict) else {}
    for key in sorted(set(stored) | set(wanted)):
        # A finished run needs its teacher no more; and the dense copy of a trained model would be another.
        if key == "teacher" and place.finished:
            continue
        if stored.get(key) != wanted.get(key):
            raise TrainingError(
                f"{path} belongs to another run: {_difference(key, stored.get(key), wanted.get(key))}. {_remedy(path)}"
            )


def _difference(key: str, stored: Any, wanted: Any) -> str:
    if key == "teacher":
        return "its teacher had other weights"
    if isinstance(stored, dict) and isinstance(wanted, dict):
        inner = next(name for name in sorted(set(stored) | set(wanted)) if stored.get(name) != wanted.get(name))
        return _difference(f"{key}.{inner}", stored.get(inner), wanted.get(inner))
    return f"{key} was {stored!r} there and is {wanted!r} now"


def _check_same_model(path: Path, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    own = model.state_dict()
    for name in [*own, *weights]:
        if name not in weights or name not in own:
            where = "the file" if name not in weights else "the model"
            raise TrainingError(f"{path} belongs to another model: {where} has no tensor '{name}'. {_remedy(path)}")
        if own[name].shape != weights[name].shape or own[name].dtype != weights[name].dtype:
            raise TrainingError(
                f"{path} belongs to another model: '{name}' is {_kind(weights[name])} there and "
                f"{_kind(own[name])} here. {_remedy(path)}"
            )


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
