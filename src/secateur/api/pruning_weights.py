"""Zeros in a network without any image."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from torch import nn

from secateur import zoo
from secateur.api.targets import onnx_of, refuse_weights, trained_network
from secateur.errors import RecipeError
from secateur.export import export_onnx, folded_copy
from secateur.graph import census_of_onnx, read_model
from secateur.pipeline.onnx_files import write_model
from secateur.pipeline.posttraining.choices import DEFAULT_SPARSITY
from secateur.posttraining import SubjectFacts, sparsify_data_free_
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.posttraining.weight_correction import Form
from secateur.sparsity import SparsityPlan, parse_pattern, plan_sparsity


def prune_weights(
    target: str | Path | nn.Module,
    out: str | Path,
    sparsity: float | None = None,
    pattern: str = "unstructured",
    *,
    allocation: str | None = None,
    correction: Form | None = "msb",
    input_size: Sequence[int] | None = None,
    weights: str | None = None,
    **options: Any,
) -> SparsityPlan:
    """Write a network without its smallest weights, and return what every layer lost. No image is needed.

    What is left of a filter gets the mean and variance that the whole filter had. That is good for mild sparsity;
    with a few hundred images `sparsify` keeps far more of the accuracy.

    target        an ONNX file from any tool, a run folder, a torch network, which stays as it is, or a name
    out           the ONNX file to write
    sparsity      fraction of zeros; by default what the pattern fixes, or 0.5
    allocation    by default lamp, or uniform for a pattern with one level
    correction    msb, exact, or None for weights that stay as they are
    input_size    (channels, height, width) where the target does not say its own
    weights       of a name: "pretrained", a file, or "none"; by default the library's own
    options       base, include_first, include_depthwise, include_classifier, only, exclude, exclude_kinds, levels,
                  options, rounding: see secateur.sparsity.plan_sparsity
    raises        ModelError, SparsityError, RecipeError, ExportError
    """
    rule = parse_pattern(pattern)
    model = _model_of(target, input_size, weights)
    size = tuple(input_size) if input_size is not None else zoo.onnx_input_size(model)
    if size is None or len(size) != 3:
        raise RecipeError(f"{target}: leaves the size of its images open; give input_size, such as 3x224x224.")
    # Nothing is run on images, so that only their size counts.
    subject = OnnxSubject(model, zoo.Preprocessing(size, (0.0,) * size[0], (1.0,) * size[0]))
    fixed = rule.fixed_level is not None
    plan = plan_sparsity(
        subject.layers,
        DEFAULT_SPARSITY if sparsity is None and not fixed else sparsity,
        rule,
        allocation=allocation or ("uniform" if fixed else "lamp"),
        facts=SubjectFacts(subject, rule, lambda: census_of_onnx(model, input_shape=size)),
        **options,
    )
    sparsify_data_free_(subject, plan.levels, rule, correction=correction, rounding=plan.rounding)
    write_model(subject.model, Path(out))
    return plan


def _model_of(target: str | Path | nn.Module, input_size: Sequence[int] | None, weights: str | None) -> onnx.ModelProto:
    """The network as an ONNX model; batch norms are part of its weights."""
    source = onnx_of(target)
    if source is not None:
        refuse_weights(target, weights)
        return read_model(source)
    network = folded_copy(target if isinstance(target, nn.Module) else trained_network(target, weights))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        return read_model(export_onnx(network, file, input_size or zoo.preprocessing_of(network).input_size))
