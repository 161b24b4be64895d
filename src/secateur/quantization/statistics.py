"""Statistics of values, kept in a file and used again without images.

    statistics.yaml        value -> min, max, avg_min, avg_max, mean, std, b
    Distiller's form       layer -> inputs: {0: {min, ...}, 1: ...}, output: {min, ...}

A layer of Distiller's form is the node of its name; what stands behind its ReLU, where the file has nothing of it, is
what a normal distribution with the layer's mean and std becomes:

    y = max(x, 0) :   E y = m P + s p ,  E y^2 = (m^2 + s^2) P + m s p ,        P, p at m / s
"""

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import yaml

from secateur.errors import ArtifactError, RecipeError
from secateur.files import write_json, write_text
from secateur.quantization.points import Points, is_rectifier
from secateur.quantization.rewriting import constant_of
from secateur.quantization.roles import given
from secateur.quantization.seen import Seen, Statistics
from secateur.recipe.document import parse_yaml

_NAMES = tuple(field.name for field in fields(Statistics))
# Statistics of a network of thousands of layers are below a megabyte.
MAX_BYTES = 64 << 20


def save_statistics(path: Path | str, statistics: Mapping[str, Statistics]) -> None:
    """Write statistics, as JSON where the name ends so and as YAML otherwise. raises DiskError."""
    plain = {name: facts.to_dict() for name, facts in statistics.items()}
    if Path(path).suffix == ".json":
        write_json(path, plain)
    else:
        write_text(path, yaml.safe_dump(plain, sort_keys=False))


def load_statistics(path: Path | str, model: onnx.ModelProto) -> dict[str, Statistics]:
    """Value -> statistics, from a file of our own or of Distiller.

    model     the prepared model whose values they are; Distiller's files name layers
    raises    ArtifactError  a file that is missing or damaged, or that names no layer of the model
    """
    data = _read(Path(path))
    try:
        if any(isinstance(entry, Mapping) and ("output" in entry or "inputs" in entry) for entry in data.values()):
            return _of_layers(data, model, path)
        return {str(name): _facts(entry) for name, entry in data.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path}: these are no statistics: {type(error).__name__} at {error}.") from error


def seen_of(points: Points, statistics: Mapping[str, Statistics]) -> list[Seen]:
    """What stands in for images of each of `points.groups`. raises ArtifactError for one that nothing is known of."""
    return [
        Seen(_joined([statistics[name] for name in _known(group.observed, group.values, statistics)]))
        for group in points.groups
    ]


def _known(observed: tuple[str, ...], values: tuple[str, ...], statistics: Mapping[str, Statistics]) -> tuple[str, ...]:
    if all(name in statistics for name in observed):
        return observed
    known = tuple(name for name in values if name in statistics)
    if not known:
        raise ArtifactError(f"the statistics have nothing of '{values[0]}'; calibrate with images.")
    return known


def _joined(parts: list[Statistics]) -> Statistics:
    """Of values that share a scale: the outermost of what is known of each."""
    return Statistics(
        min(part.min for part in parts),
        max(part.max for part in parts),
        min(part.avg_min for part in parts),
        max(part.avg_max for part in parts),
        sum(part.mean for part in parts) / len(parts),
        max(part.std for part in parts),
        max(part.b for part in parts),
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ArtifactError(f"{path}: is larger than statistics are ({MAX_BYTES:,} bytes).")
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else parse_yaml(text, str(path), aliases=True)[0]
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecipeError, RecursionError) as error:
        reason = str(error).splitlines()[0].removeprefix(f"{path}:").strip().rstrip(".")
        raise ArtifactError(f"{path}: not readable as statistics: {reason}.") from error
    if not isinstance(data, Mapping) or not data:
        raise ArtifactError(f"{path}: these are no statistics: a mapping from names to numbers is needed.")
    return data


def _facts(entry: Mapping[str, Any]) -> Statistics:
    facts = Statistics(*(float(entry[name]) for name in _NAMES))
    if not all(math.isfinite(getattr(facts, name)) for name in _NAMES) or facts.min > facts.max or facts.std < 0:
        raise ValueError(f"{facts}")
    return facts


def _of_layers(data: Mapping[str, Any], model: onnx.ModelProto, path: Path | str) -> dict[str, Statistics]:
    graph = ir.from_proto(model).graph
    # Our exports call what a module without weights does after the module and the operator.
    nodes = {(node.name or "").removesuffix(f".{node.op_type}"): node for node in graph}
    nodes.update({node.name or "": node for node in graph})
    found: dict[str, Statistics] = {}
    used = 0
    for layer, entry in data.items():
        node = nodes.get(str(layer))
        if node is None:
            continue
        used += 1
        computed = [value for value in given(node) if constant_of(value) is None]
        for place, facts in (entry.get("inputs") or {}).items():
            if int(place) < len(computed):
                found.setdefault(computed[int(place)].name or "", _facts(facts))
        if entry.get("output"):
            found[node.outputs[0].name or ""] = _facts(entry["output"])
    if not used:
        raise ArtifactError(f"{path}: none of its {len(data)} layers is a node of this model.")
    for node in graph:
        source = node.inputs[0].name if is_rectifier(node) and node.inputs[0] is not None else None
        if source in found:
            found.setdefault(node.outputs[0].name or "", rectified(found[source or ""]))
    return found


def rectified(facts: Statistics) -> Statistics:
    """What is known of max(x, 0), as if x were distributed normally."""
    mean, std = facts.mean, facts.std
    low, high = max(facts.min, 0.0), max(facts.max, 0.0)
    ends = low, high, max(facts.avg_min, 0.0), max(facts.avg_max, 0.0)
    if std == 0:
        return Statistics(*ends, max(mean, 0.0), 0.0, 0.0)

    def above(number: float) -> tuple[float, float]:
        z = (mean - number) / std
        return 0.5 * math.erfc(-z / math.sqrt(2)), math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    share, density = above(0.0)
    first = mean * share + std * density
    second = (mean**2 + std**2) * share + mean * std * density
    share, density = above(first)
    # Half of the mean distance lies above the mean, where nothing is cut off.
    distance = 2 * ((mean - first) * share + std * density)
    return Statistics(*ends, first, math.sqrt(max(second - first**2, 0.0)), max(distance, 0.0))
