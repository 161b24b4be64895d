"""What the verbs take as a network: a torch network, a name, a run folder, a weights file, an ONNX file."""

import copy
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from secateur import zoo
from secateur.errors import ModelError, RecipeError
from secateur.export import MODEL_FILE, WEIGHTS_FILE
from secateur.pipeline import is_rebuildable, load_artifact_network
from secateur.pipeline.jobs import JobOptions, weights_for
from secateur.registry import unknown

_Kind = TypeVar("_Kind", bound=JobOptions)


def network_of(target: str | Path) -> nn.Module:
    """The network of a run folder, an artifact's weights file, or a zoo name (with random weights)."""
    path = Path(target)
    if path.is_dir():
        return load_artifact_network(path / WEIGHTS_FILE)
    if path.suffix == ".safetensors":
        return load_artifact_network(path)
    if path.suffix in (".onnx", ".pth", ".pt", ".th"):
        raise ModelError(f"{target}: a file of that kind does not say which network it belongs to.")
    return zoo.model(str(target))


def trained_network(target: str | Path, weights: str | None) -> nn.Module:
    """The same for what makes sense on trained networks only: a name needs weights, its own or these.

    raises    RecipeError  a name without any, or weights beside a file or folder that has its own
    """
    path = Path(target)
    if path.is_dir() or path.suffix in (".safetensors", ".onnx", ".pth", ".pt", ".th"):
        refuse_weights(target, weights)
        return network_of(target)
    return zoo.model(str(target), weights=weights_for(str(target), JobOptions(weights=weights)))


def refuse_weights(target: object, weights: str | None) -> None:
    """raises RecipeError for weights beside a file or folder that has its own"""
    if weights is not None:
        raise RecipeError(f"{target}: comes with its weights; leave the option 'weights' out.")


def onnx_of(target: str | Path | nn.Module) -> Path | None:
    """The ONNX file that a target means; None for a torch network and its name."""
    if isinstance(target, nn.Module):
        return None
    path = Path(target)
    path = path / MODEL_FILE if path.is_dir() else path
    return path if path.suffix == ".onnx" else None


def file_alone(model: str | Path | nn.Module) -> Path | None:
    """The ONNX file; None for a torch network, its name, and a run folder that can build its network."""
    file = onnx_of(model)
    return None if file is None or (file.parent == Path(str(model)) and rebuildable(file.parent)) else file


def torch_network(model: str | Path | nn.Module, onnx_only: dict[str, str | None]) -> tuple[str, nn.Module | None]:
    """(name, network); None for the zoo's network of that name. raises RecipeError for options of ONNX files"""
    for key, value in onnx_only.items():
        if value is not None:
            raise RecipeError(f"{key} is for ONNX files; a torch network knows how its images are prepared.")
    network: nn.Module | None = None
    if isinstance(model, nn.Module):
        network = copy.deepcopy(model)
    elif Path(model).is_dir() or Path(model).suffix in (".safetensors", ".pth", ".pt", ".th"):
        network = network_of(model)
    return (str(model) if network is None else object_name(network)), network


def rebuildable(folder: Path) -> bool:
    return (folder / WEIGHTS_FILE).is_file() and is_rebuildable(folder / WEIGHTS_FILE)


def object_name(network: nn.Module) -> str:
    return getattr(network, "zoo_name", f"{type(network).__module__}:{type(network).__qualname__}")


def options_of(kind: type[_Kind], options: dict[str, Any]) -> _Kind:
    """raises RecipeError for an option that there is not"""
    known = [field.name for field in fields(kind)]
    for name in options:
        if name not in known:
            raise RecipeError(unknown("option", name, known))
    return kind(**options)
