"""A network made ready to be trained with rounding, and the plain network with rounded weights that comes out.

prepare_   exports a copy, asks the file's points which values and weights get integers, and puts a rule for each where
           the network computes it; masks stay in front of the rules, so that removed weights are zero all through
finish_    takes the rules away, leaves the rounded weights, writes the float file and the table of its scales
"""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from secateur.errors import QuantizationError
from secateur.quantization.points import Group, Points, points_of
from secateur.quantization.training.activations import ActivationRule, activation_rules
from secateur.quantization.training.biases import RoundedBias, attach_bias_
from secateur.quantization.training.forwards import Place, insert_, is_rewritten, restore_
from secateur.quantization.training.hook import RoundingSchedule, set_rounding_
from secateur.quantization.training.links import take_links_
from secateur.quantization.training.places import Map, map_of
from secateur.quantization.training.schemes import Scheme, schemes
from secateur.quantization.training.weights import RoundedWeight, attach_, weight_rules
from secateur.recipe.schema.quantization_training import QuantizationTraining
from secateur.sparsity.layers import stored_weight, unwrapped, weighted_modules
from secateur.sparsity.mask import Mask

RULES = "rounded_activations"


@dataclass(frozen=True, eq=False)
class RoundedGroup:
    """Values of the file that share their integers, and how the network rounds them.

    places    where the network computes those that are not only moved
    """

    group: Group
    places: tuple[Place, ...]
    rule: ActivationRule


@dataclass(frozen=True, eq=False)
class Prepared:
    """A network that rounds while it is trained.

    config       the recipe, with what the scheme fixes
    groups       of activations
    weights      initializer of the file -> what rounds it
    floats       layer -> why its weights stay float
    unplaced     values of the file that need integers and that the network has no place for
    """

    model: nn.Module
    config: QuantizationTraining
    input_size: tuple[int, ...]
    map: Map
    points: Points
    groups: tuple[RoundedGroup, ...]
    weights: Mapping[str, RoundedWeight]
    floats: Mapping[str, str]
    unplaced: tuple[Group, ...]

    def hook(self) -> RoundingSchedule:
        """What `fit` needs beside the network."""
        return RoundingSchedule(self.model, self.config)

    def close_(self) -> None:
        """Take all rounding away; the network is as if it had not been prepared, with the weights it has now."""
        take_away_(self, leave_rounded=False)

    def __str__(self) -> str:
        lines = [f"{'value':40} {'bits':>4}  {'rule':14} where the network computes it"]
        for group in self.groups:
            rule, place = group.rule, group.places[0]
            lines.append(f"{group.group.values[0]:40} {rule.bits:4d}  {type(rule).__name__:14} {place}")
        lines.append(f"{'weight':40} {'bits':>4}  {'rule':14} layer and the norm that is folded into it")
        for name, rounding in self.weights.items():
            found = self.map.weights[name]
            norm = f" * {found.norm}" if found.norm else ""
            lines.append(f"{name:40} {rounding.rule.bits:4d}  {type(rounding.rule).__name__:14} {found.layer}{norm}")
        lines += [f"{name:40} stays float: {reason}" for name, reason in self.floats.items()]
        lines += [f"{group.values[0]:40} has no place in the network" for group in self.unplaced]
        return "\n".join(lines)


def prepare_(
    model: nn.Module,
    config: QuantizationTraining,
    input_size: Sequence[int],
    batches: Iterable[Any] | None = None,
    known: Map | None = None,
) -> Prepared:
    """Make `model` round, in place, what its quantized file will hold in integers.

    input_size    (channels, height, width) of one image
    batches       of images, (batch, channels, height, width) or pairs with their labels, which give the first ranges;
                  without them the first steps of the training do. They are not counted: give as many as are wanted
    known         the places of a network of the same structure, which then is not exported again
    raises        QuantizationError  a network that is prepared already, or with nothing that could be rounded
                  ExportError        one that has no ONNX form
    """
    network = unwrapped(model)
    if is_rewritten(network):
        raise QuantizationError(f"this {type(network).__name__} is prepared already; close_ takes the rounding away.")
    scheme = schemes[config.scheme]
    config = scheme.filled(config)
    found = map_of(network, input_size) if known is None else known
    floats = _kept(network, config, found)
    points = points_of(found.file, keep_float=tuple(floats))
    for point in points.weights:
        _check_links(found.weights[point.name].layer, network)
    weights = _round_weights_(network, config, scheme, found, points)
    groups, unplaced = _groups_of(config, scheme, found, points)
    if not weights and not groups:
        raise QuantizationError(f"{type(network).__name__} has neither weights nor activations that could be rounded.")
    device = next(network.parameters()).device
    rules = nn.ModuleDict({group.group.values[0].replace(".", "/"): group.rule.to(device) for group in groups})
    network.add_module(RULES, rules)
    _round_biases_(network, found, points, weights, groups)
    insert_(network, found.forwards, {place: group.rule for group in groups for place in group.places})
    prepared = Prepared(network, config, tuple(input_size), found, points, groups, weights, floats, unplaced)
    if batches is not None:
        _observe_(prepared, batches)
    return prepared


def bits_of(config: QuantizationTraining, names: Iterable[str], kind: str, usual: int | None) -> int | None:
    """The bits of `weights` or `activations`: those of the first override that one of the names fits."""
    names = tuple(names)
    for pattern, bits in config.overrides.items():
        if kind in bits.model_fields_set and any(fnmatch.fnmatchcase(name, pattern) for name in names):
            return cast(int | None, getattr(bits, kind))
    return usual


def _kept(network: nn.Module, config: QuantizationTraining, found: Map) -> dict[str, str]:
    """Layers that stay float from the start: name of their node -> why."""
    nodes = [node for node in found.file.graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    nodes = [node for node in nodes if node.input[1] in {tensor.name for tensor in found.file.graph.initializer}]
    tied = _tied(network)
    kept: dict[str, str] = {}
    for number, node in enumerate(nodes):
        place = found.weights.get(node.input[1])
        names = (node.name,) if place is None else (node.name, place.layer)
        pattern = next((p for p in config.keep_float for name in names if fnmatch.fnmatchcase(name, p)), None)
        if pattern is not None:
            kept[node.name] = f"kept by '{pattern}'"
        elif (number == 0 and not config.include_first) or (number == len(nodes) - 1 and not config.include_classifier):
            kept[node.name] = "the first or the last layer"
        elif bits_of(config, names, "weights", config.weight_bits) is None:
            kept[node.name] = "its weights are to stay float"
        elif place is None:
            kept[node.name] = "its weight in the file is not a layer's, nor that times the scale of a norm"
        elif place.layer in tied:
            kept[node.name] = f"it shares its weight with {tied[place.layer]}"
    return kept


def _tied(network: nn.Module) -> dict[str, str]:
    """Layers whose weight another one in front of them has too."""
    first: dict[int, str] = {}
    tied: dict[str, str] = {}
    for name, module in weighted_modules(network).items():
        owner = first.setdefault(id(stored_weight(module)), name)
        if owner != name:
            tied |= {name: owner, owner: name}
    return tied


def _round_weights_(
    network: nn.Module, config: QuantizationTraining, scheme: Scheme, found: Map, points: Points
) -> dict[str, RoundedWeight]:
    rounded: dict[str, RoundedWeight] = {}
    for point in points.weights:
        place = found.weights[point.name]
        bits = bits_of(config, (place.layer, *point.nodes), "weights", config.weight_bits)
        assert bits is not None  # such a layer is kept float
        module = network.get_submodule(place.layer)
        norm = None if place.norm is None else network.get_submodule(place.norm)
        rule = weight_rules[scheme.weights](bits, config).to(stored_weight(module).device)
        rounded[point.name] = attach_(module, rule, norm, place.torch_axis)
    return rounded


def _check_links(name: str, network: nn.Module) -> None:
    module = network.get_submodule(name)
    chains = cast(nn.ModuleDict, module.parametrizations) if parametrize.is_parametrized(module, "weight") else {}
    links = chains["weight"].children() if chains else ()
    other = next((type(link).__name__ for link in links if not isinstance(link, Mask)), None)
    if other is not None:
        raise QuantizationError(
            f"{name}: its weight is computed by {other}; make it a plain weight with "
            f"torch.nn.utils.parametrize.remove_parametrizations first."
        )


def _groups_of(
    config: QuantizationTraining, scheme: Scheme, found: Map, points: Points
) -> tuple[tuple[RoundedGroup, ...], tuple[Group, ...]]:
    groups: list[RoundedGroup] = []
    unplaced: list[Group] = []
    taken: set[Place] = set()
    for group in points.groups:
        missing = [name for name in group.observed if name not in found.values]
        places = tuple(dict.fromkeys(found.values[name] for name in group.observed if name in found.values))
        names = (*group.values, *map(str, places), group.node)
        bits = bits_of(config, names, "activations", config.activation_bits)
        if bits is None:
            continue
        if missing or taken.intersection(places):
            unplaced.append(group)
            continue
        taken.update(places)
        positive = scheme.behind_relu if group.low >= 0 else None
        rule = activation_rules[positive or scheme.activations](bits, config, (group.low, group.high))
        groups.append(RoundedGroup(group, places, rule))
    return tuple(groups), tuple(unplaced)


def _round_biases_(
    network: nn.Module,
    found: Map,
    points: Points,
    weights: Mapping[str, RoundedWeight],
    groups: Sequence[RoundedGroup],
) -> None:
    rules = {name: group.rule for group in groups for name in group.group.values}
    nodes = {node.name: node for node in found.file.graph.node}
    for point in points.weights:
        sources = {nodes[node].input[0] for node in point.nodes}
        source = rules.get(sources.pop()) if len(sources) == 1 else None
        if source is not None:
            attach_bias_(network.get_submodule(found.weights[point.name].layer), weights[point.name], source)


@torch.no_grad()
def _observe_(prepared: Prepared, batches: Iterable[Any]) -> None:
    """Let the rules look at images, in evaluation mode and without rounding."""
    model, device = prepared.model, next(prepared.model.parameters()).device
    modes = {module: module.training for module in model.modules()}
    model.eval()
    set_rounding_(model, False)
    for group in prepared.groups:
        group.rule.train()
    try:
        for batch in batches:
            images = batch[0] if isinstance(batch, list | tuple) else batch
            model(torch.as_tensor(images, dtype=torch.float32, device=device))
    finally:
        for module, mode in modes.items():
            module.training = mode
        set_rounding_(model, True)


@torch.no_grad()
def take_away_(prepared: Prepared, leave_rounded: bool) -> None:
    """Take all rules away; the weights are the rounded ones, or those behind them."""
    restore_(prepared.model)
    delattr(prepared.model, RULES)
    for name in prepared.weights if leave_rounded else ():
        module = prepared.model.get_submodule(prepared.map.weights[name].layer)
        stored_weight(module).copy_(cast(Tensor, module.weight).detach().clone())
    for module in prepared.model.modules():
        take_links_(module, (RoundedWeight, RoundedBias))
