"""How long every layer takes on this processor at every level: what caps by hardware usefulness are made from.

    for every level:  plant zeros in all layers of the exported network, compile it, profile all layers at once

The engine leaves the zeros of a layer alone where they would make it slower, so a level that does not pay takes the
dense time. Sweeps over the levels are repeated and the least time counts: a neighbour on the machine only ever adds.

Source: our own design (the tables per chip that MSBench reads are not public).
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import nn

from secateur import zoo
from secateur.engine.session import compile_onnx
from secateur.errors import SparsityError
from secateur.export import MODEL_FILE, export_onnx
from secateur.graph import read_model
from secateur.measure import machine
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.progress import track
from secateur.sparsity import Layer, LayerSeconds, Pattern, filters_first, layers_of, make_mask, parse_pattern
from secateur.sparsity.layers import as_stored
from secateur.zoo import Preprocessing

LEVELS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)


def measure_layer_seconds(
    network: nn.Module,
    pattern: str | Pattern = "unstructured",
    levels: Sequence[float] | None = None,
    *,
    threads: int = 1,
    batch: int = 1,
    rounds: int = 10,
    sweeps: int = 2,
) -> LayerSeconds:
    """Seconds of every layer of `network` at every level of `pattern`, in the engine; the network is not changed.

    levels     by default LEVELS; level 0, the dense time, is always among them; of a pattern with one level only that
               one is measured
    rounds     runs of which the median counts, in each of `sweeps` passes over all levels
    returns    layers that the engine computes itself, and the seconds of all the rest
    raises     SparsityError  levels that are no levels;  ExportError, EngineError, ModelError
    """
    rule = parse_pattern(pattern)
    wanted, layers = _levels_of(rule, levels), _fitting(layers_of(network), rule)
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(network, Path(folder) / MODEL_FILE, zoo.preprocessing_of(network).input_size)
        dense = read_model(path)

    def planted(level: float) -> onnx.ModelProto:
        return _planted(dense, layers, rule, level) if level else dense

    return _measured(planted, layers, rule, wanted, threads, batch, rounds, sweeps)


def measure_file_seconds(
    model: onnx.ModelProto,
    preprocessing: Preprocessing,
    pattern: str | Pattern = "unstructured",
    levels: Sequence[float] | None = None,
    *,
    threads: int = 1,
    batch: int = 1,
    rounds: int = 10,
    sweeps: int = 2,
) -> LayerSeconds:
    """The same of an ONNX model, which is not changed; layers are called as in its census.

    raises    SparsityError  levels that are no levels;  EngineError, ModelError
    """
    rule = parse_pattern(pattern)
    subject = OnnxSubject(model, preprocessing)
    subject.name_operators_()
    wanted, layers = _levels_of(rule, levels), _fitting(subject.layers, rule)
    weights = {layer.name: subject.weight(layer.name) for layer in layers}

    def planted(level: float) -> onnx.ModelProto:
        for layer in layers:
            weight = weights[layer.name]
            subject.store_(layer.name, weight * make_mask(weight.abs(), rule, level, groups=layer.groups))
        return subject.model

    return _measured(planted, layers, rule, wanted, threads, batch, rounds, sweeps)


def kept_seconds(folder: Path, pattern: str, measure: Callable[[], LayerSeconds]) -> LayerSeconds:
    """Times that are measured once: a run that goes on must not choose by other ones. raises ArtifactError"""
    path = folder / f"seconds-{pattern.replace(':', '-').replace('/', '-')}.json"
    if path.is_file():
        return LayerSeconds.read(path)
    found = measure()
    found.write(path)
    return found


def _levels_of(rule: Pattern, levels: Sequence[float] | None) -> list[float]:
    levels = LEVELS if levels is None else levels
    if not all(0.0 <= level < 1.0 for level in levels):
        raise SparsityError(f"levels are fractions of at least 0 and below 1, not {list(levels)}.")
    return sorted({0.0, *levels}) if rule.fixed_level is None else [0.0, rule.fixed_level]


def _fitting(layers: Sequence[Layer], rule: Pattern) -> list[Layer]:
    return [layer for layer in layers if rule.applies(layer.filter_shape, layer.groups, layer.kind) is None]


def _measured(
    planted: Callable[[float], onnx.ModelProto],
    layers: Sequence[Layer],
    rule: Pattern,
    wanted: Sequence[float],
    threads: int,
    batch: int,
    rounds: int,
    sweeps: int,
) -> LayerSeconds:
    """Times with the models that `planted` makes for every level."""
    names = {alias: layer.name for layer in layers for alias in (layer.name, *layer.shared)}
    seconds: dict[str, dict[float, float]] = {layer.name: {} for layer in layers}
    rest = math.inf
    with track(sweeps * len(wanted), "layer times") as progress:
        for _ in range(sweeps):
            for level in wanted:
                with compile_onnx(planted(level), threads=threads, batch=batch) as session:
                    profile = session.profile(rounds=rounds, against_dense=False)
                taken: dict[str, float] = {}
                for row in profile.layers:
                    if row.facts.layer in names:
                        # A weight that is used twice takes the time of both.
                        name = names[row.facts.layer]
                        taken[name] = taken.get(name, 0.0) + row.seconds
                for name, time in taken.items():
                    seconds[name][level] = min(time, seconds[name].get(level, time))
                if level == 0:
                    rest = min(rest, max(profile.total - sum(taken.values()), 0.0))
                progress.advance(level=level)
    where = f"{machine().cpu}, {threads} thread{'s' * (threads != 1)}, batch {batch}"
    return LayerSeconds(where, str(rule), {name: times for name, times in seconds.items() if times}, rest)


def _planted(dense: onnx.ModelProto, layers: Sequence[Layer], rule: Pattern, level: float) -> onnx.ModelProto:
    """The model with the smallest weights of every layer at zero."""
    model = onnx.ModelProto()
    model.CopyFrom(dense)
    meant = {f"{name}.weight": layer for layer in layers for name in (layer.name, *layer.shared)}
    for tensor in model.graph.initializer:
        layer = meant.get(tensor.name)
        if layer is None or tuple(tensor.dims) != layer.shape:
            continue
        weight = torch.from_numpy(numpy_helper.to_array(tensor).copy())
        scores = filters_first(weight.abs(), layer.kind, layer.groups)
        mask = as_stored(make_mask(scores, rule, level, groups=layer.groups), layer.kind, layer.groups)
        tensor.CopyFrom(numpy_helper.from_array((weight * mask).numpy(), tensor.name))
    return model
