"""Forward passes of modules, rewritten so that values inside them can be rounded.

Every module that is not one of torch's own building blocks is traced by torch.fx, its children as closed boxes; then
it runs the traced graph with calls inserted behind some nodes. The tree of modules, its names and hooks stay as they
are, and a module that torch.fx cannot trace is left alone: only what it does between its children has no place then.

A graph is traced in both modes, training and evaluation, and used only where both have the same nodes: what differs
(the probability of a functional dropout) then follows the mode of the module as it runs.

Our own design.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.nn.utils import parametrize

from secateur.posttraining.trace import NORMS
from secateur.sparsity.layers import WEIGHTED

# The calls inserted have these names, which no module has otherwise.
_PREFIX = "_secateur_round_"
_MARK = f"{_PREFIX}forward"
# What torch.fx calls the tensors that code makes.
_CONSTANT = "_tensor_constant"


@dataclass(frozen=True)
class Place:
    """A value inside a module: that of the node number `node` of its graph."""

    module: str
    node: int
    name: str

    def __str__(self) -> str:
        return f"{self.module}:{self.name}" if self.module else self.name


@dataclass(frozen=True, eq=False)
class Forward:
    """What a module does, in training and in evaluation: two graphs with the same nodes.

    constants    tensors that its code makes, which torch.fx keeps beside the graph
    """

    training: fx.Graph
    evaluation: fx.Graph
    constants: Mapping[str, Tensor]

    def places(self, module: str) -> list[Place]:
        """Every value of the graph, in order of execution."""
        nodes = cast(Sequence[fx.Node], list(self.evaluation.nodes))
        return [
            Place(module, number, node.name)
            for number, node in enumerate(nodes)
            if node.op not in ("output", "get_attr")
        ]


def forwards_of(model: nn.Module) -> tuple[dict[str, Forward], dict[str, str]]:
    """(module name -> what it does, module name -> why it cannot be traced); torch's building blocks are in neither."""
    found: dict[str, Forward] = {}
    reasons: dict[str, str] = {}
    for name, module in model.named_modules():
        if _is_block(module):
            continue
        traced = _traced(module)
        if isinstance(traced, Forward):
            found[name] = traced
        else:
            reasons[name] = traced
    return found, reasons


def insert_(model: nn.Module, forwards: Mapping[str, Forward], calls: Mapping[Place, Callable[..., Any]]) -> None:
    """Let the values at these places go through these callables; all that read a value read what its callable gives."""
    # The network itself is always rewritten: a Sequential would run whatever is added to it later.
    by_module: dict[str, dict[int, Callable[..., Any]]] = {"": {}} if "" in forwards else {}
    for place, call in calls.items():
        by_module.setdefault(place.module, {})[place.node] = call
    for name, numbered in by_module.items():
        module, forward = model.get_submodule(name), forwards[name]
        module.__dict__.update(forward.constants)
        for number, call in numbered.items():
            # Not registered as a child: a Sequential would count it among its own.
            module.__dict__[f"{_PREFIX}{number}"] = call
        run = {True: _compiled(forward.training, numbered), False: _compiled(forward.evaluation, numbered)}
        module.__dict__[_MARK] = True
        module.__dict__["forward"] = types.MethodType(_by_mode(run), module)


def restore_(model: nn.Module) -> None:
    """Give all modules their own forward passes back."""
    for module in model.modules():
        if _MARK in module.__dict__:
            for name in [name for name in module.__dict__ if name.startswith((_PREFIX, _CONSTANT))]:
                del module.__dict__[name]
            del module.__dict__["forward"]


def is_rewritten(model: nn.Module) -> bool:
    """Whether `insert_` changed any module."""
    return any(_MARK in module.__dict__ for module in model.modules())


def _by_mode(run: Mapping[bool, Callable[..., Any]]) -> Callable[..., Any]:
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return run[self.training](self, *args, **kwargs)

    return forward


def _compiled(graph: fx.Graph, calls: Mapping[int, Callable[..., Any]]) -> Callable[..., Any]:
    copy = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    result = None
    for number, node in enumerate(list(graph.nodes)):
        if node.op == "output":
            result = map_arg(node.args[0], lambda read: copies[read])
            continue
        copies[node] = copy.node_copy(node, lambda read: copies[read])
        if number in calls:
            copies[node] = copy.call_module(f"{_PREFIX}{number}", (copies[node],))
    copy.output(result)
    code = copy.python_code("self")
    space = dict(code.globals)
    exec(compile(code.src, "<rounded forward>", "exec"), space)
    return cast(Callable[..., Any], space["forward"])


def _is_block(module: nn.Module) -> bool:
    """Modules that stay closed: those of torch, and layers of one weight, whatever else they do."""
    if isinstance(module, (*WEIGHTED, *NORMS)) or parametrize.is_parametrized(module):
        return True
    own = type(module).__module__.startswith(("torch.nn.", "torch.ao."))
    return own and not isinstance(module, nn.Sequential)


class _Boxes(fx.Tracer):
    """A tracer to which every child is a closed box."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _traced(module: nn.Module) -> Forward | str:
    modes = {part: part.training for part in module.modules()}
    graphs: list[fx.Graph] = []
    constants: list[dict[str, Tensor]] = []
    try:
        for mode in (True, False):
            graphs.append(_Boxes().trace(module.train(mode)))
            constants.append({name: value for name, value in vars(module).items() if name.startswith(_CONSTANT)})
            for name in constants[-1]:
                delattr(module, name)
    except Exception as error:  # code of any network: whatever it raises, the module is not traced
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"torch.fx cannot trace {type(module).__name__}: {lines[0]}"
    finally:
        for part, mode in modes.items():
            part.training = mode
    first, second = ([(node.op, node.target, len(node.all_input_nodes)) for node in graph.nodes] for graph in graphs)
    if first != second or not all(torch.equal(value, constants[1][name]) for name, value in constants[0].items()):
        return f"{type(module).__name__} does something else in training than in evaluation"
    return Forward(graphs[0], graphs[1], constants[0])
