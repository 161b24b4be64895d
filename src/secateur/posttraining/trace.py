"""A network as the list of steps that it executes, so that a part of it can be run alone.

Traced by torch.fx. A module whose code depends on values becomes one step; so do convolutions, linear layers and norms.
Steps are functions of their operands: what works in place is replaced by what does not, because operands are cached
and used again. A trace counts only if it computes on an example exactly what the network computes.
"""

import contextlib
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.nn.modules.batchnorm import _NormBase

from secateur.sparsity.layers import WEIGHTED, weighted_modules

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
FUNCTIONAL: Mapping[Any, Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
Values = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One step.

    name      the value that it gives
    reads     values that it reads and that depend on the images, each once
    layers    convolutions and linear layers inside, by name
    whole     it is a module that is none of these layers itself: its inside is not traced
    tensor    the value is one tensor
    bytes     of the value, for one image
    """

    name: str
    reads: tuple[str, ...]
    layers: tuple[str, ...]
    whole: bool
    tensor: bool
    bytes: int


@dataclass(frozen=True, eq=False)
class Trace:
    """The steps of a network that lead from its images to its output, in order of execution."""

    steps: tuple[Step, ...]
    source: str
    result: str
    nodes: Mapping[str, fx.Node]

    def run(self, network: nn.Module, names: Sequence[str], values: Values) -> None:
        """Execute steps with the modules of `network`; their values are added to `values`."""
        for name in names:
            values[name] = _execute(network, self.nodes[name], values)


def trace_of(network: nn.Module, images: Tensor) -> Trace | str:
    """The steps of `network` in evaluation mode, or why there are none, as the end of a sentence."""
    leaves: set[str] = set()
    while True:
        tracer = _Tracer(leaves)
        try:
            graph = tracer.trace(network, concrete_args=_defaults(network))
            break
        except Exception as error:  # code of any network: whatever it raises, the module is not traced
            if not tracer.inside:
                reason = str(error).strip().splitlines() or [type(error).__name__]
                return f"torch.fx cannot trace {type(network).__name__}: {reason[0]}"
            leaves.add(tracer.inside[-1])
    return _checked(network, graph, images)


@contextlib.contextmanager
def out_of_place(*networks: nn.Module) -> Iterator[None]:
    """Evaluation mode, and no module that overwrites what it reads; everything as before afterwards."""
    modules = [module for network in networks for module in network.modules()]
    training = [module.training for module in modules]
    changed = [module for module in modules if getattr(module, "inplace", False) is True]
    try:
        for network in networks:
            network.eval()
        for module in changed:
            module.inplace = False  # type: ignore[assignment]
        yield
    finally:
        for module, mode in zip(modules, training, strict=True):
            module.training = mode
        for module in changed:
            module.inplace = True  # type: ignore[assignment]


class _Tracer(fx.Tracer):
    def __init__(self, leaves: set[str]) -> None:
        super().__init__()
        self.leaves = leaves
        self.inside: list[str] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = isinstance(m, (*WEIGHTED, *NORMS)) or module_qualified_name in self.leaves
        return known or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        # Left on the list when the module raises: the innermost one is the one that cannot be traced.
        self.inside.append(self.path_of_module(m))
        found = super().call_module(m, forward, args, kwargs)
        self.inside.pop()
        return found


def _defaults(network: nn.Module) -> dict[str, Any]:
    """Optional arguments of the network, at their defaults."""
    parameters = inspect.signature(network.forward).parameters.values()
    return {found.name: found.default for found in parameters if found.default is not found.empty}


def _checked(network: nn.Module, graph: fx.Graph, images: Tensor) -> Trace | str:
    output = next(node for node in graph.nodes if node.op == "output").args[0]
    needed = _ancestors(output) if isinstance(output, fx.Node) else set[fx.Node]()
    inputs = [node for node in needed if node.op == "placeholder"]
    if len(inputs) != 1 or not isinstance(output, fx.Node):
        return f"{type(network).__name__} has not one input and one output"
    _make_functional(network, graph)
    varying = _varying(graph, inputs[0])
    kept = [node for node in graph.nodes if node in varying and node in needed and node is not inputs[0]]
    values: Values = {inputs[0].name: images}
    with torch.no_grad(), out_of_place(network):
        try:
            for node in kept:
                values[node.name] = _execute(network, node, values)
            wanted = network(images)
        except Exception as error:  # as above
            return f"the steps of {type(network).__name__} do not run: {error}"
    if not isinstance(wanted, Tensor) or not torch.equal(values[output.name], wanted):
        return f"the steps that torch.fx found do not compute what {type(network).__name__} computes"
    steps = tuple(_step(network, node, varying, values[node.name], len(images)) for node in kept)
    return Trace(steps, inputs[0].name, output.name, {node.name: node for node in kept})


def _step(network: nn.Module, node: fx.Node, varying: set[fx.Node], value: Any, images: int) -> Step:
    layers: tuple[str, ...] = ()
    whole = False
    if node.op == "call_module":
        module, target = network.get_submodule(str(node.target)), str(node.target)
        inner = [name for name, part in module.named_modules() if isinstance(part, WEIGHTED)]
        layers = tuple(f"{target}.{name}" if name else target for name in inner)
        whole = bool(layers) and not isinstance(module, WEIGHTED)
    else:
        # A layer whose weight is read without calling it, as attention does with its projections.
        weighted = weighted_modules(network)
        owners = (str(read.target).rpartition(".")[0] for read in _constants(node, varying) if read.op == "get_attr")
        layers = tuple(dict.fromkeys(name for name in owners if name in weighted))
    reads = tuple(dict.fromkeys(read.name for read in node.all_input_nodes if read in varying))
    tensor = isinstance(value, Tensor) and value.is_floating_point()
    size = value.numel() * value.element_size() // images if isinstance(value, Tensor) else 0
    return Step(node.name, reads, layers, whole, tensor, size)


def _make_functional(network: nn.Module, graph: fx.Graph) -> None:
    """No step overwrites what it reads any more: who read the overwritten value later reads the step's own now."""
    order = {node: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if not _was_in_place_(network, node) or not node.args or not isinstance(node.args[0], fx.Node):
            continue
        for reader in list(node.args[0].users):
            if order[reader] > order[node]:
                reader.replace_input_with(node.args[0], node)


def _was_in_place_(network: nn.Module, node: fx.Node) -> bool:
    """Whether a node works in place; afterwards it does not, except modules, which `out_of_place` tells."""
    if node.op == "call_module":
        return getattr(network.get_submodule(str(node.target)), "inplace", False) is True
    if node.op == "call_method":
        plain = str(node.target).rstrip("_")
        if plain == node.target or str(node.target).startswith("_") or not hasattr(Tensor, plain):
            return False
        node.target = plain
        return True
    if node.op != "call_function":
        return False
    if node.target in FUNCTIONAL:
        node.target = FUNCTIONAL[node.target]
        return True
    with contextlib.suppress(TypeError, ValueError):  # built-in functions without a signature
        names = list(inspect.signature(cast(Callable[..., Any], node.target)).parameters)
        if "inplace" in names:
            position = names.index("inplace")
            found = bool(node.kwargs.get("inplace", node.args[position] if len(node.args) > position else False))
            node.args = node.args[:position]
            node.kwargs = {**node.kwargs, "inplace": False}
            return found
    # torch.relu_ and the like
    plain = getattr(torch, str(getattr(node.target, "__name__", "")).rstrip("_"), None)
    if str(getattr(node.target, "__name__", "")).endswith("_") and callable(plain):
        node.target = plain
        return True
    return False


def _varying(graph: fx.Graph, source: fx.Node) -> set[fx.Node]:
    found = {source}
    for node in graph.nodes:
        if any(read in found for read in node.all_input_nodes):
            found.add(node)
    return found


def _constants(node: fx.Node, varying: set[fx.Node]) -> list[fx.Node]:
    """What a step reads that does not depend on the images, in order."""
    fixed = [read for read in node.all_input_nodes if read not in varying]
    return fixed + [deeper for read in fixed for deeper in _constants(read, varying)]


def _ancestors(node: fx.Node) -> set[fx.Node]:
    found: set[fx.Node] = set()
    open_nodes = [node]
    while open_nodes:
        current = open_nodes.pop()
        if current not in found:
            found.add(current)
            open_nodes += current.all_input_nodes
    return found


def _execute(network: nn.Module, node: fx.Node, values: Mapping[str, Any]) -> Any:
    def value(read: fx.Node) -> Any:
        # What does not depend on the images (parameters, constants) is no step; it is looked up where it is read.
        return values[read.name] if read.name in values else _execute(network, read, values)

    if node.op == "get_attr":
        return _attribute(network, str(node.target))
    args = cast(tuple[Any, ...], map_arg(node.args, value))
    kwargs = cast(dict[str, Any], map_arg(node.kwargs, value))
    if node.op == "call_module":
        return network.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return cast(Callable[..., Any], node.target)(*args, **kwargs)


def _attribute(network: nn.Module, name: str) -> Any:
    found: Any = network
    for part in name.split("."):
        found = getattr(found, part)
    return found
