"""What a safetensors file says about itself: how its images were prepared, which options its network has.

Two forms are read; the first also inside the one entry `secateur` that exported weights have.
1. Our own: `secateur.preprocessing` and `secateur.model`, both JSON (`metadata_of` writes them).
2. The text key `input`, in one of the forms
       ImageNet mean/std on 0..1
       x/127.5-1
       mean .4914 .4822 .4465 std .2023 .1994 .2010 on 0..1
   which may go on with '; LeakyReLU 0.1', beside the keys `activation`, `padding` and `bn_eps`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from secateur.errors import ModelError, WeightsError
from secateur.zoo.preprocessing import FIELDS, IMAGENET_MEAN, IMAGENET_STD, Preprocessing

PREPROCESSING_KEY, MODEL_KEY = "secateur.preprocessing", "secateur.model"
HEADER_KEY = "secateur"

_NUMBER = r"\d*\.?\d+"
_MEAN_STD = re.compile(rf"mean((?: {_NUMBER})+) std((?: {_NUMBER})+) on 0\.\.1")
_ACTIVATIONS = {"relu": "relu", "relu6": "relu6", "leakyrelu 0.1": "leaky_relu"}
_PADDINGS = {
    "tensorflow same": "tensorflow",
    "same": "tensorflow",
    "tensorflow": "tensorflow",
    "torch": "torch",
}


@dataclass(frozen=True)
class Stated:
    """What a weights file states.

    preprocessing   fields of Preprocessing; absent where the file says nothing
    options         options of the network (`activation`, `padding`, `bn_eps`, `classes`, ...)
    model           name of the zoo model that it was written for
    not_understood  the text of `input` when it has none of the known forms
    """

    preprocessing: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    not_understood: str | None = None


def metadata_of(module: nn.Module) -> dict[str, str]:
    """What a file with the weights of a zoo model should state; values are JSON texts."""
    found: dict[str, str] = {}
    preprocessing = getattr(module, "preprocessing", None)
    if isinstance(preprocessing, Preprocessing):
        found[PREPROCESSING_KEY] = json.dumps(preprocessing.to_dict())
    options = getattr(module, "zoo_options", None)
    if options is not None:
        found[MODEL_KEY] = json.dumps(options)
    return found


def parse_metadata(metadata: Mapping[str, str], source: str) -> Stated:
    """Read the metadata of the file named `source`. raises WeightsError when our own keys are damaged."""
    if HEADER_KEY in metadata:
        inner = _json_object(metadata, HEADER_KEY, source).get("metadata")
        metadata = inner if isinstance(inner, dict) else {}
    preprocessing: dict[str, Any] = {}
    options: dict[str, Any] = {}
    name = not_understood = None
    if text := metadata.get("input"):
        first, *others = (part.strip() for part in text.split(";"))
        known = _parse_input(first)
        not_understood = text if known is None else None
        preprocessing.update(known or {})
        for part in others:
            if part.lower() in _ACTIVATIONS:
                options["activation"] = _ACTIVATIONS[part.lower()]
    options.update(_parse_options(metadata, source))
    if MODEL_KEY in metadata:
        model = _json_object(metadata, MODEL_KEY, source)
        name = str(model.get("name"))
        options.update({key: value for key, value in model.items() if key not in ("name", *FIELDS)})
    if PREPROCESSING_KEY in metadata:
        values = _json_object(metadata, PREPROCESSING_KEY, source)
        try:
            preprocessing.update(Preprocessing.from_dict(values).to_dict())
        except ModelError as error:
            raise WeightsError(f"{source}: its metadata '{PREPROCESSING_KEY}' is damaged: {error}") from error
    return Stated(preprocessing, options, name, not_understood)


def _parse_input(text: str) -> dict[str, Any] | None:
    if text == "ImageNet mean/std on 0..1":
        return {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    if text.replace(" ", "") == "x/127.5-1":
        return {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    if found := _MEAN_STD.fullmatch(text):
        mean, std = (tuple(map(float, numbers.split())) for numbers in found.groups())
        return {"mean": mean * 3 if len(mean) == 1 else mean, "std": std * 3 if len(std) == 1 else std}
    return None


def _parse_options(metadata: Mapping[str, str], source: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for key, known in (("activation", _ACTIVATIONS), ("padding", _PADDINGS)):
        if key in metadata:
            if metadata[key].lower() not in known:
                raise WeightsError(f"{source}: its metadata says {key} '{metadata[key]}', which is not known here.")
            options[key] = known[metadata[key].lower()]
    if "bn_eps" in metadata:
        try:
            options["bn_eps"] = float(metadata["bn_eps"])
        except ValueError as error:
            raise WeightsError(f"{source}: its bn_eps '{metadata['bn_eps']}' is not a number.") from error
    return options


def _json_object(metadata: Mapping[str, str], key: str, source: str) -> dict[str, Any]:
    try:
        value = json.loads(metadata[key])
    except json.JSONDecodeError as error:
        raise WeightsError(f"{source}: its metadata '{key}' is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{source}: its metadata '{key}' must be a JSON object, it is {value!r}.")
    return value
