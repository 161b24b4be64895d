"""Networks by name: our own, torchvision's, timm's, or `package.module:callable`.

    module = model("resnet20_cifar10", weights="resnet20.safetensors")
    module.preprocessing     # how its images are prepared: a Preprocessing
    module.zoo_name          # "resnet20_cifar10"
    module.zoo_options       # plain JSON; model(**module.zoo_options) builds the same network again

What the user passes comes first, then what the weights file states, then the network's own default. A weights
file that contradicts the user is an error.
"""

import fnmatch
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

import secateur.zoo.cifar
import secateur.zoo.mobilenet_v1
import secateur.zoo.mobilenet_v2_wide  # noqa: F401  (the three imports register their networks)
from secateur.errors import ModelError, WeightsError
from secateur.registry import nearest, unknown
from secateur.zoo.catalogue import own_models, renamings_of
from secateur.zoo.head import classes_of
from secateur.zoo.imported import call, import_callable, is_spec
from secateur.zoo.library import LIBRARIES
from secateur.zoo.metadata import Stated
from secateur.zoo.preprocessing import FIELDS, Preprocessing
from secateur.zoo.weight_files import WeightsFile, open_weights
from secateur.zoo.weights import check_fits, load_file_

PRETRAINED = "pretrained"


def models(pattern: str = "*") -> list[str]:
    """Names that match a glob: our own first, then torchvision's, then timm's; a name appears once."""
    return [name for name, _, _ in model_sources(pattern)]


def model_sources(pattern: str = "*") -> list[tuple[str, str, bool]]:
    """(name, where it comes from, whether it has pretrained weights) of every name that matches a glob."""
    found = {
        name: (name, f"secateur: {entry.about}", False)
        for name, entry in own_models.items()
        if fnmatch.fnmatchcase(name, pattern)
    }
    for library in LIBRARIES:
        for name in library.names():
            if name not in found and fnmatch.fnmatchcase(name, pattern):
                found[name] = (name, library.name, library.has_pretrained(name))
    return list(found.values())


def model(
    name: str,
    *,
    weights: str | Path | None = None,
    classes: int | None = None,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """The network called `name`, in evaluation mode.

    weights   None or "none": random, by `seed`; "pretrained": the library's own; or a .safetensors, .pth, .pt, .th file
    classes   None: what the weights file states, or the network's default
    options   of the network (`padding="torch"`) and of its input (`input_size`, `mean`, `crop_pct`, ...)

    raises    ModelError    unknown name or option, a value that does not exist
              WeightsError  weights that cannot be had, are damaged, or belong to another network
    """
    weights = None if weights == "none" else weights
    if classes is not None and classes < 1:
        raise ModelError(f"{name}: the number of classes must be at least 1, it is {classes}.")
    given_input = {key: options.pop(key) for key in FIELDS if key in options}
    given = frozenset(given_input) | frozenset(options)
    file = None
    if weights is not None and weights != PRETRAINED:
        file = open_weights(weights, renamings_of(name))
    with _seeded(seed):
        module, default_input, options = _build(name, weights == PRETRAINED, file, classes, options)
    _describe(module, name, options, given, default_input, given_input)
    if file is not None:
        load_file_(module, file)
    return module.eval()


def preprocessing_of(module: nn.Module) -> Preprocessing:
    """How images are prepared for `module`. raises ModelError when it does not say."""
    found = getattr(module, "preprocessing", None)
    if isinstance(found, Preprocessing):
        return found
    raise ModelError(
        f"{type(module).__name__} does not say how its images are prepared; "
        "set module.preprocessing = Preprocessing(input_size, mean, std)."
    )


def _build(
    name: str, pretrained: bool, file: WeightsFile | None, classes: int | None, options: dict[str, Any]
) -> tuple[nn.Module, Preprocessing | None, dict[str, Any]]:
    """The network, its own preprocessing, and every option that it was built with."""
    stated = file.stated if file else Stated()
    if file and "classes" in stated.options:
        _check_stated_classes(file)
    if name in own_models:
        if pretrained:
            raise WeightsError(f"{name}: no weights are published for it; pass a .safetensors or .pth file, or none.")
        return _build_own(name, file, classes, options)
    if is_spec(name):
        if pretrained:
            raise WeightsError(f"{name}: 'pretrained' exists only for named models; let the callable load its weights.")
        return _build_imported(name, classes, options)
    for library in LIBRARIES:
        if library.has(name):
            build = library.pretrained if pretrained else library.build
            module = build(name, classes or stated.options.get("classes"), options)
            return module, library.preprocessing(name, module), options
    known = models()
    guess = nearest(name, known)
    hint = f" Did you mean '{guess}'?" if guess else ""
    raise ModelError(f"unknown model '{name}'.{hint} `secateur models` lists all {len(known)} names.")


def _build_own(
    name: str, file: WeightsFile | None, classes: int | None, options: dict[str, Any]
) -> tuple[nn.Module, Preprocessing, dict[str, Any]]:
    entry = own_models[name]
    for key in options:
        if key not in entry.options:
            raise ModelError(f"{name}: {unknown('option', key, (*entry.options, *FIELDS))}")
    stated = file.stated if file else Stated()
    from_file = {key: value for key, value in stated.options.items() if key in entry.options}
    options = entry.options | from_file | options
    classes = classes or stated.options.get("classes") or entry.classes
    try:
        if file:
            # What a file states must not make us build something larger than the file itself.
            with torch.device("meta"):
                check_fits(_named(entry.build(classes=classes, **options), name), file)
        return entry.build(classes=classes, **options), entry.preprocessing, options
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{name}: cannot be built with {options}: {error}.") from error


def _check_stated_classes(file: WeightsFile) -> None:
    """A number of classes that no tensor of the file has is damage, and could exhaust the memory."""
    classes = file.stated.options["classes"]
    if not any(shape[:1] == (classes,) for shape in file.shapes.values()):
        raise WeightsError(f"{file.path}: its metadata says {classes!r} classes, but none of its tensors has as many.")


def _named(module: nn.Module, name: str) -> nn.Module:
    module.zoo_name = name  # type: ignore[assignment]
    return module


def _build_imported(
    name: str, classes: int | None, options: dict[str, Any]
) -> tuple[nn.Module, Preprocessing | None, dict[str, Any]]:
    build = import_callable(name, ModelError)
    arguments = dict(options)
    try:
        parameters = inspect.signature(build).parameters
    except ValueError:  # some callables written in C have no signature
        parameters = {}
    takes = [key for key in ("classes", "num_classes") if key in parameters]
    if classes is not None and takes:
        arguments[takes[0]] = classes
    module = call(name, build, ModelError, **arguments)
    if not isinstance(module, nn.Module):
        raise ModelError(f"{name}: must return a torch.nn.Module, it returned a {type(module).__name__}.")
    if classes is not None and classes_of(module) != classes:
        raise ModelError(
            f"{name}: returned a network of {classes_of(module)} classes, {classes} are wanted; "
            "give the callable a parameter `classes`."
        )
    own = getattr(module, "preprocessing", None)
    return module, Preprocessing.from_dict(own) if isinstance(own, dict) else own, options


def _describe(
    module: nn.Module,
    name: str,
    options: dict[str, Any],
    given: frozenset[str],
    default_input: Preprocessing | None,
    given_input: dict[str, Any],
) -> None:
    """Set the attributes that a zoo model carries."""
    if default_input is not None or {"input_size", "mean", "std"} <= set(given_input):
        base = default_input.to_dict() if default_input else {}
        preprocessing = Preprocessing.from_dict(base | given_input)
        module.preprocessing = preprocessing  # type: ignore[assignment]
        given_input = {key: preprocessing.to_dict()[key] for key in given_input}
    module.zoo_name = name  # type: ignore[assignment]
    module.zoo_options = {"name": name, "classes": classes_of(module), **options, **given_input}  # type: ignore[assignment]
    module.zoo_given = given  # type: ignore[assignment]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random initialisation by `seed`; the program's own random numbers go on as if none had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
