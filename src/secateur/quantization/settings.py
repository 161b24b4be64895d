"""How layers become integers: one setting for all, and others for those that are named.

Override("layer3.*", weights=Numbers(4, signed=True, symmetric=True))
Override("depthwise", per_channel=True, observer="mse")
Override("last", observer="minmax")
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx
import onnx_ir as ir

from secateur.errors import QuantizationError
from secateur.quantization.numbers import ACTIVATIONS, WEIGHTS, Numbers
from secateur.quantization.points import ends_of, is_meant, kind_of


@dataclass(frozen=True)
class Settings:
    """How ranges and weights become scales.

    observer       which observer chooses the ranges of activations
    options        of the observer
    activations    which integers activations become
    weights        which integers weights become
    per_channel    weights have a step for every output channel, otherwise one for all
    """

    observer: str = "mse"
    options: Mapping[str, Any] | None = None
    activations: Numbers = ACTIVATIONS
    weights: Numbers = WEIGHTS
    per_channel: bool = True


@dataclass(frozen=True)
class Override:
    """What is different for some layers; None leaves it as it is.

    match          glob of node names, a kind (`conv`, `depthwise`, `conv_transpose`, `linear`, `add`, ..., `input`),
                   `first` or `last`. Activations go by the node that gives them
    """

    match: str
    observer: str | None = None
    options: Mapping[str, Any] | None = None
    activations: Numbers | None = None
    weights: Numbers | None = None
    per_channel: bool | None = None


Chooser = Callable[[str, str], Settings]
"""(name of a node, its kind) -> its settings."""


def chooser(model: onnx.ModelProto, settings: Settings, overrides: Sequence[Override] = ()) -> Chooser:
    """The settings of every node of a model; of several overrides that match, later ones win.

    raises    QuantizationError  an override that matches nothing
    """
    graph = ir.from_proto(model).graph
    ends = ends_of(graph)
    nodes = [(node.name or "", kind_of(node)) for node in graph]
    for override in overrides:
        if override.match != "input" and not any(is_meant(override.match, *node, ends) for node in nodes):
            raise QuantizationError(
                f"'{override.match}' is the name of no node and no kind; there are nodes such as "
                f"{', '.join(name for name, _ in nodes[:3])}."
            )

    def choose(node: str, kind: str) -> Settings:
        chosen = settings
        for override in overrides:
            if is_meant(override.match, node, kind, ends):
                chosen = _overridden(chosen, override)
        return chosen

    return choose


def _overridden(settings: Settings, override: Override) -> Settings:
    if override.observer is not None:
        # Options belong to their observer: those of another do not stay.
        settings = replace(settings, observer=override.observer, options=override.options)
    elif override.options is not None:
        settings = replace(settings, options=override.options)
    return replace(
        settings,
        activations=override.activations or settings.activations,
        weights=override.weights or settings.weights,
        per_channel=settings.per_channel if override.per_channel is None else override.per_channel,
    )
