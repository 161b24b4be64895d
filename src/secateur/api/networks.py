"""Trained torch networks judged and written: accuracy, sensitivity of every layer, ONNX."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from secateur import sparsity, training, zoo
from secateur.api.targets import network_of
from secateur.errors import ModelError, RecipeError
from secateur.export import check_onnx
from secateur.export import export_onnx as write_onnx
from secateur.pipeline import build_network
from secateur.pipeline.sensitivity import SensitivitySettings, analyse_sensitivity
from secateur.recipe import Data, Model
from secateur.registry import unknown
from secateur.report import write_sensitivity_chart


def sensitivity(
    model: str | nn.Module,
    data: str | zoo.ImageData = "digits",
    *,
    out: str | Path = "sensitivity",
    weights: str | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> sparsity.SensitivityTable:
    """Prune every layer alone to every level and see how much worse the network gets; nothing is retrained.

    model        a network, a name, a run folder, or the weights file of one
    out          gets sensitivity.json, .csv, .png and .svg; an analysis that was stopped goes on
    weights      of a name: "pretrained", a file, or "none"; by default the library's own
    settings     the fields of secateur.pipeline.sensitivity.SensitivitySettings (pattern, levels, measure, ...)
    raises       SecateurError
    """
    known = [field.name for field in fields(SensitivitySettings)]
    for name in settings:
        if name not in known:
            raise RecipeError(unknown("setting", name, known))
    chosen = SensitivitySettings(**settings)
    images = zoo.data(data) if isinstance(data, str) else data
    network = model if isinstance(model, nn.Module) else _trained(model, weights, images)
    if chosen.measure != "output_error":
        zoo.check_classes(images, network)
    table = analyse_sensitivity(network, images, out, chosen, overwrite=overwrite)
    write_sensitivity_chart(table, Path(out) / "sensitivity.png", Path(out) / "sensitivity.svg")
    return table


def _trained(target: str, weights: str | None, images: zoo.ImageData) -> nn.Module:
    """The network that a run folder, a weights file or a name means, with weights worth looking at."""
    if Path(target).suffix == ".onnx":
        raise ModelError(f"{target}: an ONNX file cannot be analysed; give its torch network.")
    if weights is None and (Path(target).is_dir() or Path(target).suffix == ".safetensors"):
        return network_of(target)
    published = any(name == target and pretrained for name, _, pretrained in zoo.model_sources(target))
    if weights is None and not published and ":" not in target:
        raise RecipeError(
            f"{target}: no weights are published for it; give a .safetensors or .pth file as weights, or 'none'."
        )
    return build_network(
        Model(name=target, weights=weights or ("pretrained" if published else None)), Data(), images, 0
    )


def evaluate(model: nn.Module, data: str | zoo.ImageData = "digits", *, limit: int | None = None) -> training.Accuracy:
    """Top-1, top-5 and loss of a torch network on test images."""
    images = zoo.data(data) if isinstance(data, str) else data
    return training.evaluate(model, images, zoo.preprocessing_of(model), limit=limit)


def export_onnx(model: nn.Module, path: str | Path, *, images: Any = None, **options: Any) -> Path:
    """Write a torch network as ONNX; with `images` (batches) also check that ONNX Runtime computes the same.

    options    dynamic_batch, batch, opset
    raises     ExportError
    """
    written = write_onnx(model, path, zoo.preprocessing_of(model).input_size, **options)
    if images is not None:
        check_onnx(model, written, images)
    return written
