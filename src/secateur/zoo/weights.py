"""Put the tensors of a file into a network, all of them or none.

Everything is checked before the first tensor is written: names, shapes, classes, finite values, and whether
the file states another input or other options than the network was explicitly given.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import WeightsError
from secateur.zoo.catalogue import own_models, renamings_of
from secateur.zoo.head import head_of
from secateur.zoo.preprocessing import FIELDS, Preprocessing
from secateur.zoo.weight_files import WeightsFile, from_tensors, open_weights

# A file of so many times the numbers is refused before its names are compared.
FILE_TO_MODEL = 8
# The counter of batch norm is absent from files of old torch versions and has no use for inference.
OPTIONAL = "num_batches_tracked"


def load_weights_(module: nn.Module, path: str | Path) -> None:
    """Replace every parameter and buffer of `module` by those in a file; `module.preprocessing` follows it.

    raises    WeightsError  and leaves `module` as it was: the file is missing or damaged, belongs to another
                            network, has other classes, holds NaN or infinity, or contradicts the options
    """
    load_file_(module, open_weights(path, renamings_of(_name(module))))


def load_state_(
    module: nn.Module, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], source: str | Path
) -> None:
    """The same from tensors in memory; `source` says in errors where they came from. raises WeightsError."""
    load_file_(module, from_tensors(tensors, metadata, Path(source)))


def load_file_(module: nn.Module, file: WeightsFile) -> None:
    """The same from a file that is already open."""
    check_fits(module, file)
    preprocessing = _stated_preprocessing(module, file)
    _check_options(module, file)
    module.load_state_dict(_finite_tensors(module, file), strict=False)
    if preprocessing is not None:
        module.preprocessing = preprocessing  # type: ignore[assignment]
        if hasattr(module, "zoo_options"):
            stated = {key: preprocessing.to_dict()[key] for key in file.stated.preprocessing}
            module.zoo_options = {**module.zoo_options, **stated}  # type: ignore[assignment,dict-item]


def check_fits(module: nn.Module, file: WeightsFile) -> None:
    """Compare names and shapes alone; `module` may lie on the meta device. raises WeightsError."""
    _check_size(module, file)
    _check_names(module, file)
    _check_shapes(module, file)


def _check_size(module: nn.Module, file: WeightsFile) -> None:
    wanted = sum(tensor.numel() for tensor in module.state_dict().values())
    if file.elements > FILE_TO_MODEL * wanted:
        raise WeightsError(
            f"{file.path}: has {file.elements:,} numbers, far more than the {wanted:,} of {_name(module)}, "
            f"so it belongs to another network.{_says(module, file)}"
        )


def _check_names(module: nn.Module, file: WeightsFile) -> None:
    wanted = [name for name in module.state_dict() if not name.endswith(OPTIONAL)]
    missing = [name for name in wanted if name not in file.shapes]
    unexpected = [name for name in file.shapes if name not in module.state_dict() and not name.endswith(OPTIONAL)]
    if not missing and not unexpected:
        return
    parts = [
        f"{len(names)} {what} (the first is {names[0]})"
        for what, names in (("are missing", missing), ("are unexpected", unexpected))
        if names
    ]
    raise WeightsError(
        f"{file.path}: holds the weights of another network than {_name(module)}: of its tensors "
        f"{' and '.join(parts)}.{_says(module, file)}"
    )


def _check_shapes(module: nn.Module, file: WeightsFile) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    differing = [name for name, shape in file.shapes.items() if name in shapes and shapes[name] != shape]
    if not differing:
        return
    head = head_of(module)
    if all(name.startswith(f"{head}.") for name in differing):
        has, wants = file.shapes[differing[0]][:1], shapes[differing[0]][:1]
        if has != wants:
            raise WeightsError(
                f"{file.path}: has {has[0] if has else 'no'} classes, {_name(module)} was built with "
                f"{wants[0]}; the head {head} differs, so pass classes={has[0] if has else wants[0]} "
                "or another file."
            )
    first = differing[0]
    raise WeightsError(
        f"{file.path}: {len(differing)} tensors have other shapes than in {_name(module)}; the first is "
        f"{first}, {list(file.shapes[first])} in the file and {list(shapes[first])} in the network."
        f"{_says(module, file)}"
    )


def _finite_tensors(module: nn.Module, file: WeightsFile) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, wanted in module.state_dict().items():
        if name not in file.shapes:
            continue
        try:
            tensor = file.read(name)
        except (RuntimeError, OSError, ValueError) as error:
            raise WeightsError(f"{file.path}: tensor {name} cannot be read: {error}.") from error
        if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized:
            raise WeightsError(f"{file.path}: tensor {name} is {tensor.dtype}, {tensor.layout}; floats are needed.")
        if wanted.is_floating_point() and not tensor.is_floating_point():
            raise WeightsError(f"{file.path}: tensor {name} is stored as {tensor.dtype}; floats are needed.")
        bad = int((~torch.isfinite(tensor)).sum()) if tensor.is_floating_point() else 0
        if bad:
            raise WeightsError(
                f"{file.path}: tensor {name} holds NaN or infinity in {bad:,} of {tensor.numel():,} places; "
                "the weights are damaged."
            )
        tensors[name] = tensor
    return tensors


def _stated_preprocessing(module: nn.Module, file: WeightsFile) -> Preprocessing | None:
    """The network's preprocessing after loading; None when neither the network nor the file says enough."""
    current: Any = getattr(module, "preprocessing", None)
    given = set(FIELDS) & set(getattr(module, "zoo_given", ()))
    stated = file.stated.preprocessing
    if file.stated.not_understood and not {"mean", "std"} <= given:
        raise WeightsError(
            f"{file.path}: says about its input '{file.stated.not_understood}', which is not understood; "
            "pass mean and std (on the scale 0..1)."
        )
    if not isinstance(current, Preprocessing):
        return Preprocessing.from_dict(stated) if {"input_size", "mean", "std"} <= set(stated) else None
    after = Preprocessing.from_dict(current.to_dict() | stated)
    # How much of the border is cut, and how an image is resized, the user may choose for any weights.
    chosen = {key: getattr(current, key) for key in given & {"crop_pct", "interpolation"}}
    for key in sorted((given & set(stated)) - set(chosen)):
        has, wants = getattr(after, key), getattr(current, key)
        if not _same(has, wants):
            raise WeightsError(
                f"{file.path}: was trained with {key} {has} of its input, but {wants} was asked for; leave it out."
            )
    return replace(after, **chosen)


def _check_options(module: nn.Module, file: WeightsFile) -> None:
    built_with = getattr(module, "zoo_options", {})
    for key, has in file.stated.options.items():
        if key in built_with and not _same(has, built_with[key]):
            raise WeightsError(
                f"{file.path}: was trained with {key} {has}, but {_name(module)} was built with {key} "
                f"{built_with[key]}; build it with {key}={has!r}."
            )


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-6)
    return a == b


def _name(module: nn.Module) -> str:
    return getattr(module, "zoo_name", type(module).__name__)


def _says(module: nn.Module, file: WeightsFile) -> str:
    """' It fits X.' when the file names another zoo model, or its tensors are those of one of our own."""
    if file.stated.model and file.stated.model != _name(module):
        return f" It says that it holds {file.stated.model}."
    fitting = _own_model_that_fits(file)
    return f" It fits {fitting}." if fitting and fitting != _name(module) else ""


def _own_model_that_fits(file: WeightsFile) -> str | None:
    """Our own network with the same tensors, whatever its number of classes."""
    for name, entry in own_models.items():
        renamed = open_weights(file.path, entry.renamings) if entry.renamings and file.path.is_file() else file
        theirs = {key: shape for key, shape in renamed.shapes.items() if not key.endswith(OPTIONAL)}
        head, ours = _tensors_of_own(name)
        if ours.keys() == theirs.keys() and all(
            key.startswith(f"{head}.") or shape == theirs[key] for key, shape in ours.items()
        ):
            return name
    return None


@functools.cache
def _tensors_of_own(name: str) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Name of the head, and all shapes; on the meta device a network costs no memory and no random numbers."""
    entry = own_models[name]
    with torch.device("meta"):
        module = entry.build(classes=entry.classes, **entry.options)
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    return head_of(module), {key: shape for key, shape in shapes.items() if not key.endswith(OPTIONAL)}
