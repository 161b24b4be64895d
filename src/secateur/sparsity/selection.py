"""Which layers may be pruned, and for every other one the reason why not.

    excluded by default    the first convolution, depthwise convolutions, the classifier; each has a switch
    excluded by name       names, globs such as layer4.*, parts of names such as downsample; a leading `module.` and a
                           trailing `.weight` are ignored
    excluded by kind       linear, depthwise, ..., and first and last
    not named              where layers are named at all, those that are not
    cannot                 the pattern does not fit the shape; fewer weights than `min_weights`

The first convolution is the one defined first. The classifier is the last linear layer defined, or the last
convolution where there is no linear layer (SqueezeNet).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

from torch import nn

from secateur.errors import SparsityError
from secateur.graph.layer_count import Kind
from secateur.registry import unknown
from secateur.sparsity.layers import Layer, layers_of
from secateur.sparsity.pattern import Pattern, parse_pattern

ExcludedKind = Kind | Literal["first", "last"]
KINDS = (*get_args(Kind), "first", "last")

NOT_NAMED = "not among the layers named"


@dataclass(frozen=True)
class Selection:
    """Layers that may be pruned, and those that may not, with reasons."""

    chosen: tuple[str, ...]
    skipped: dict[str, str]


def select_layers(
    network: nn.Module | Sequence[Layer],
    pattern: str | Pattern = "unstructured",
    *,
    include_first: bool = False,
    include_depthwise: bool = False,
    include_classifier: bool = False,
    include: Iterable[str] = (),
    only: Iterable[str] = (),
    exclude: Iterable[str] = (),
    exclude_kinds: Iterable[ExcludedKind] = (),
    min_weights: int = 0,
) -> Selection:
    """The layers of `network` that `pattern` may prune.

    network    or its layers in order of definition, those of an ONNX file for instance
    include    names or globs that the defaults and `min_weights` do not hold back
    only       names or globs; when there are any, all others stay dense. A name in full counts as included
    exclude    names, globs or parts of names; one that matches nothing is an error; stronger than include
    exclude_kinds    conv, depthwise, conv_transpose, linear, first, last
    raises     SparsityError  no layer at all, a glob that matches nothing, a kind that does not exist
    """
    layers = layers_of(network) if isinstance(network, nn.Module) else network
    if not layers:
        raise SparsityError("the model has no convolution and no linear layer, so there is nothing to prune.")
    rule = parse_pattern(pattern)
    skipped: dict[str, str] = {}
    for glob in exclude:
        for name in match_layers(layers, glob, parts=True):
            skipped.setdefault(name, f"excluded by '{glob}'")
    wanted = {name for glob in include for name in match_layers(layers, glob)}
    named = {name: glob for glob in only for name in match_layers(layers, glob)}
    wanted |= {name for name, glob in named.items() if _plain(glob) == name}
    kinds: set[str] = set(exclude_kinds)
    for kind in sorted(kinds.difference(KINDS)):
        raise SparsityError(unknown("kind of layer", kind, KINDS))
    first, last = _first_convolution(layers), _classifier(layers)
    for layer in layers:
        reason = rule.applies(layer.filter_shape, layer.groups, layer.kind)
        if layer.name in wanted:
            pass
        elif named and layer.name not in named:
            reason = NOT_NAMED
        elif layer.kind in kinds or (layer.depthwise and "depthwise" in kinds):
            reason = f"excluded: {layer.kind}"
        elif layer is first and (not include_first or "first" in kinds):
            reason = "first convolution"
        elif layer is last and (not include_classifier or "last" in kinds):
            reason = "classifier"
        elif layer.depthwise and not include_depthwise:
            reason = "depthwise"
        elif layer.weights < min_weights:
            reason = f"fewer than {min_weights} weights"
        if reason is not None:
            skipped.setdefault(layer.name, reason)
    in_order = {layer.name: skipped[layer.name] for layer in layers if layer.name in skipped}
    return Selection(tuple(layer.name for layer in layers if layer.name not in skipped), in_order)


def match_layers(layers: Sequence[Layer], glob: str, *, parts: bool = False) -> tuple[str, ...]:
    """Names of the layers that a name or glob means; a shared tensor answers to each of its names.

    parts     what is no glob and no name in full may also be a part of names
    raises    SparsityError  when nothing matches, with the nearest name
    """
    wanted = _plain(glob)
    names = {layer.name: (layer.name, *layer.shared) for layer in layers}
    matched = [name for name, known in names.items() if any(fnmatchcase(one, wanted) for one in known)]
    if not matched and parts and wanted:
        matched = [name for name, known in names.items() if any(wanted in one for one in known)]
    if not matched:
        raise SparsityError(unknown("layer or glob", glob, [layer.name for layer in layers]))
    return tuple(matched)


def _plain(glob: str) -> str:
    return glob.removeprefix("module.").removesuffix(".weight")


def _first_convolution(layers: Sequence[Layer]) -> Layer | None:
    return next((layer for layer in layers if layer.kind != "linear"), None)


def _classifier(layers: Sequence[Layer]) -> Layer:
    linear = [layer for layer in layers if layer.kind == "linear"]
    return (linear or list(layers))[-1]
