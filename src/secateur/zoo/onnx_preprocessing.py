"""How images are prepared for an ONNX file: said by the user or by the file, never guessed.

1. What the user says:  a text (`ImageNet mean/std on 0..1`, `x/127.5-1`, `mean .5 std .5 on 0..1`), JSON of the fields
                        of Preprocessing, a .json file of them, or a weights file whose metadata says it
2. A network by name:   what the zoo's network of that name expects
3. The file's metadata: `preprocessing`, as our own exports write it

The input's own size fills in what 1 leaves open.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from secateur.errors import ModelError, RecipeError
from secateur.files import read_json
from secateur.zoo.metadata import parse_metadata
from secateur.zoo.models import model as build_model
from secateur.zoo.models import preprocessing_of
from secateur.zoo.preprocessing import Preprocessing
from secateur.zoo.weight_files import open_weights

KEY = "preprocessing"
FORMS = (
    "'ImageNet mean/std on 0..1', 'x/127.5-1', 'mean .49 .48 .45 std .2 .2 .2 on 0..1', JSON such as "
    '\'{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}\', a .json file of that, or the .safetensors file of its '
    "weights"
)


def onnx_preprocessing(
    model: onnx.ModelProto,
    file: Path | str,
    *,
    stated: str | None = None,
    name: str | None = None,
    crop_pct: float | None = None,
) -> Preprocessing:
    """What the network in an ONNX file expects of its images.

    stated      the user's words, in one of the forms above
    name        of a network of the zoo that the file holds
    crop_pct    of the test-time centre crop, in place of what is found
    raises      RecipeError  nobody says it, or both do;  ModelError  damaged metadata, impossible values
    """
    if stated is not None and name is not None:
        raise RecipeError("the preprocessing is given, and the name of a network that has its own; give one of them.")
    if stated is not None:
        found = _stated(stated, model, file)
    elif name is not None:
        found = preprocessing_of(build_model(name))
    else:
        found = _of_metadata(model, file)
    return found if crop_pct is None else replace(found, crop_pct=crop_pct)


def _of_metadata(model: onnx.ModelProto, file: Path | str) -> Preprocessing:
    entries = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in entries:
        raise RecipeError(
            f"{file}: does not say how its images are prepared, and a wrong guess would spoil the result; give a "
            f"preprocessing ({FORMS}), or the name of the model."
        )
    try:
        value = json.loads(entries[KEY])
        if not isinstance(value, dict):
            raise TypeError(f"a {type(value).__name__} in place of an object")
        return Preprocessing.from_dict(value)
    except (json.JSONDecodeError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: its metadata '{KEY}' is damaged: {error}.") from error


def _stated(text: str, model: onnx.ModelProto, file: Path | str) -> Preprocessing:
    fields = _fields(text)
    if "input_size" not in fields:
        size = onnx_input_size(model)
        if size is None:
            raise RecipeError(
                f"{file}: leaves the size of its images open; give the preprocessing as JSON with "
                '"input_size": [channels, height, width].'
            )
        fields["input_size"] = size
    return Preprocessing.from_dict(fields)


def _fields(text: str) -> dict[str, Any]:
    value: Any
    if text.lstrip().startswith("{"):
        try:
            value = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise RecipeError(f"the preprocessing is no JSON: {error}.") from error
    elif text.endswith(".json"):
        value = read_json(text)
    elif Path(text).suffix in (".safetensors", ".pth", ".pt", ".th"):
        value = open_weights(text).stated.preprocessing
        if not value:
            raise RecipeError(f"{text}: says nothing of how images are prepared.")
    else:
        found = parse_metadata({"input": text}, "the preprocessing")
        if found.not_understood is not None or not found.preprocessing:
            raise RecipeError(f"the preprocessing '{text}' is not understood; known are {FORMS}.")
        value = found.preprocessing
    if not isinstance(value, dict):
        raise RecipeError(f"the preprocessing must be a JSON object, it is a {type(value).__name__}.")
    return dict(value)


def onnx_input_size(model: onnx.ModelProto) -> tuple[int, ...] | None:
    """(channels, height, width) of the first input; None where the file leaves a side open."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    sides = [side.dim_value for side in inputs[0].type.tensor_type.shape.dim][1:] if inputs else []
    return tuple(sides) if len(sides) == 3 and min(sides) > 0 else None
