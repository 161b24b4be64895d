"""Whole residual branches: blocks of which only the shortcut is left.

    y = x + f(x)   or   y = relu(x + f(x))      without f:   y = x   or   y = relu(x)

A block is found by what it computes: with every parameter at zero it gives back its input, or the relu of it. So it
does not matter how the block is written, and what has no such shortcut (a block that halves the image, a shuffle, a
concatenation) is never taken for one. Of blocks within blocks the inner ones count.

Narrow convolutions are as slow as wider ones where a runtime computes channels in blocks of sixteen; a branch that is
gone takes no time anywhere. Source: Distiller's removal of layers (4D groups); that a run finds the blocks is our own.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.channels.trace import input_shape, plain_copy
from secateur.errors import ModelError, SparsityError
from secateur.registry import unknown
from secateur.sparsity import census, unwrapped
from secateur.sparsity.census import run_once

Rest = Literal["input", "relu"]


@dataclass(frozen=True)
class Branch:
    """A block whose branch can go.

    name          of the module
    rest          what the block computes without its branch: its input, or the relu of it
    layers        convolutions and linear layers in it
    parameters    all of them, norms too
    macs          of one image
    """

    name: str
    rest: Rest
    layers: tuple[str, ...]
    parameters: int
    macs: int


def residual_branches(model: nn.Module, input_size: Sequence[int] | None = None) -> tuple[Branch, ...]:
    """The blocks of `model` whose branch can go, in the order in which they run; the model is not changed.

    input_size    of one image, see channel_groups
    raises        ModelError  the network does not run on such an input
    """
    return _found(model, input_size, silent=True)


def idle_branches(model: nn.Module, input_size: Sequence[int] | None = None) -> tuple[Branch, ...]:
    """Those that add exactly nothing as they are: pruned or regularised to zero. raises ModelError."""
    return _found(model, input_size, silent=False)


def drop_branches_(model: nn.Module, rests: Mapping[str, Rest]) -> None:
    """Put what is left of each named block in its place.

    rests     name of a block -> what it computes without its branch
    raises    SparsityError  the model has no such module; nothing is changed then
    """
    network = unwrapped(model)
    modules = dict(network.named_modules())
    for name, rest in rests.items():
        if not name or name not in modules:
            raise SparsityError(unknown("block", name, [block for block in modules if block]))
        if rest not in get_args(Rest):
            raise SparsityError(unknown("rest of a block", rest, get_args(Rest)))
    for name, rest in rests.items():
        _put_(network, name, nn.Identity() if rest == "input" else nn.ReLU())


@contextlib.contextmanager
def without_branches(model: nn.Module, rests: Mapping[str, Rest]) -> Iterator[None]:
    """`model` computes without some branches, and has them again afterwards. raises SparsityError."""
    network = unwrapped(model)
    modules = dict(network.named_modules())
    drop_branches_(model, rests)
    try:
        yield
    finally:
        for name in rests:
            _put_(network, name, modules[name])


def _put_(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, module)


def _found(model: nn.Module, input_size: Sequence[int] | None, silent: bool) -> tuple[Branch, ...]:
    network, shape = plain_copy(model), input_shape(model, input_size)
    layers = {layer.name: layer for layer in census(network, shape).layers}
    modules = dict(network.named_modules())
    inputs = _inputs(network, shape)
    rests: dict[str, Rest] = {}
    for name, given in inputs.items():
        held = [layer for layer in layers if layer.startswith(f"{name}.")]
        rest = _rest(modules[name], given, silent) if held and name else None
        if rest is not None:
            rests[name] = rest
    inner = [name for name in rests if not any(other.startswith(f"{name}.") for other in rests)]
    branches: list[Branch] = []
    for name in inner:
        own = tuple(layer for layer in layers if layer.startswith(f"{name}."))
        parameters = sum(parameter.numel() for parameter in modules[name].parameters())
        branches.append(Branch(name, rests[name], own, parameters, sum(layers[layer].macs for layer in own)))
    return tuple(branch for branch in branches if _runs_without(network, branch, shape))


def _inputs(network: nn.Module, shape: Sequence[int]) -> dict[str, Tensor]:
    """Module called once with one tensor and giving one of the same shape -> what it was given."""
    seen: dict[str, list[Tensor | None]] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            given = args[0] if len(args) == 1 and not kwargs else None
            fits = isinstance(given, Tensor) and isinstance(out, Tensor) and given.shape == out.shape
            seen.setdefault(name, []).append(cast(Tensor, given) if fits else None)

        return hook

    handles = [
        module.register_forward_hook(watch(name), with_kwargs=True)
        for name, module in network.named_modules()
        if any(True for _ in module.children())
    ]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            run_once(network, tuple(shape))
    finally:
        for handle in handles:
            handle.remove()
    # A hook fires when its module ends; the order of the blocks is that of the modules.
    return {
        name: calls[0]
        for name, _ in network.named_modules()
        if len(calls := seen.get(name, [])) == 1 and calls[0] is not None
    }


def _rest(block: nn.Module, given: Tensor, silent: bool) -> Rest | None:
    """What `block` gives back; with `silent` after all its parameters and statistics became zero."""
    trial = copy.deepcopy(block)
    if silent:
        for tensor in (*trial.parameters(), *trial.buffers()):
            if tensor.is_floating_point():
                tensor.zero_()
    x = torch.randn(given.shape, generator=torch.Generator().manual_seed(0)).to(given.dtype)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            y = trial(x.clone())
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
        return None
    if torch.equal(y, x):
        return "input"
    return "relu" if torch.equal(y, F.relu(x)) else None


def _runs_without(network: nn.Module, branch: Branch, shape: Sequence[int]) -> bool:
    """Whether the network's own code does without the block's attributes."""
    trial = copy.deepcopy(network)
    drop_branches_(trial, {branch.name: branch.rest})
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            run_once(trial, tuple(shape))
    except (ModelError, AttributeError):
        return False
    return True
