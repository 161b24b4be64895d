"""Units of reconstruction: the parts of a network that are fitted one after the other.

    independent    one convolution or linear layer alone
    layer          from the layer along the chain of single readers (norm, activation, ...) until the next layer,
                   an operator of several values, a fork, or the output
    block          from a value through which everything flows to the next one, plus the chain that follows; where
                   nothing forks, at most three layers with their chains
    network        all of it

Everything flows through a value if, once it is known, no earlier one is read any more: there all open branches have
joined. A network that cannot be traced falls back to `independent`, and says so.

Source: MSBench (layer and block reconstruction); the cuts by live values are our own design.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from secateur.graph.table import text_table
from secateur.posttraining.trace import Step, Trace, out_of_place, trace_of
from secateur.sparsity.layers import stored_weight, unwrapped, weighted_modules

UnitKind = Literal["independent", "layer", "block", "network"]
STRAIGHT = 3


@dataclass(frozen=True)
class Unit:
    """One unit.

    layers    convolutions and linear layers in it, in order of execution
    source    the value it reads
    result    the value it gives
    steps     of the trace, in order; none: the layer is run by itself, and its values are caught by hooks
    """

    name: str
    layers: tuple[str, ...]
    source: str
    result: str
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Units:
    """All units of a network, in order of execution; prints as a table.

    kind     of the units, after a fall back
    note     a sentence about what could not be done as asked
    trace    None where the network cannot be traced
    peak     bytes of the values that are needed at the same time, at most, for one image
    """

    kind: UnitKind
    units: tuple[Unit, ...]
    note: str | None
    trace: Trace | None
    peak: int

    def run(self, unit: Unit, network: nn.Module, source: Tensor) -> Tensor:
        """What `unit` computes from its input, with the weights of `network`."""
        if not unit.steps or self.trace is None:
            return network.get_submodule(unit.layers[0])(source)
        values: dict[str, Any] = {unit.source: source}
        self.trace.run(network, unit.steps, values)
        return values[unit.result]

    def __str__(self) -> str:
        headers = ("unit", "reads", "gives", "layers")
        rows = [(unit.name, unit.source, unit.result, " ".join(unit.layers)) for unit in self.units]
        lines = [text_table(headers, rows, left=4), f"{len(rows)} units of kind {self.kind}"]
        return "\n".join(lines + ([self.note] if self.note else []))


def find_units(network: nn.Module, kind: UnitKind, images: Tensor) -> Units:
    """The units of `network`.

    images    a few, preprocessed, on the network's device: they are run once to see what is executed
    """
    network = unwrapped(network)
    calls, peak = _calls(network, images)
    trace = trace_of(network, images)
    if isinstance(trace, str):
        asked = "" if kind == "independent" else f", so that its layers are fitted independently, not by {kind}"
        alone = tuple(_alone(name) for name in calls)
        note = f"{trace}{asked}." if kind != "independent" else None
        return Units("independent", alone, _notes(network, alone, note), None, peak)
    makers = {"independent": _layers, "layer": _layers, "block": _blocks, "network": _network}
    found = tuple(makers[kind](network, trace, calls, kind))
    return Units(kind, found, _notes(network, found, None), trace, max(peak, _peak(trace)))


def _calls(network: nn.Module, images: Tensor) -> tuple[dict[str, int], int]:
    """(layer -> how often it runs, in order of its first run; bytes of its values for one image, at most)."""
    calls: dict[str, int] = {}
    sizes: dict[str, int] = {}

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls[name] = calls.get(name, 0) + 1
            size = sum(value.numel() * value.element_size() for value in (*inputs, output))
            sizes[name] = sizes.get(name, 0) + size // len(images)

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in weighted_modules(network).items()]
    try:
        with torch.no_grad(), out_of_place(network):
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    first = _owners(network)
    own = {name: count for name, count in calls.items() if first[name] == name or first[name] not in calls}
    return own, max(sizes.values(), default=0)


def _owners(network: nn.Module) -> dict[str, str]:
    """Layer -> the first layer with the same weight."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(id(stored_weight(module)), name) for name, module in weighted_modules(network).items()
    }


def _notes(network: nn.Module, units: tuple[Unit, ...], note: str | None) -> str | None:
    notes = [note] if note else []
    owners = _owners(network)
    reached = {owners[name] for unit in units for name in unit.layers}
    silent = [name for name, owner in owners.items() if owner == name and name not in reached]
    if silent:
        listed = ", ".join(silent[:3]) + (", ..." if len(silent) > 3 else "")
        notes.append(f"{len(silent)} layers are in no unit, because the network does not call them: {listed}.")
    return " ".join(notes) or None


def _peak(trace: Trace) -> int:
    last = _last_reads(trace)
    live: dict[str, int] = {}
    peak = 0
    for index, step in enumerate(trace.steps):
        live[step.name] = step.bytes
        peak = max(peak, sum(live.values()))
        live = {name: size for name, size in live.items() if last[name] > index}
    return peak


def _last_reads(trace: Trace) -> dict[str, int]:
    """Value -> index of the last step that reads it; the output is read at the end."""
    last = {trace.source: -1} | {step.name: index for index, step in enumerate(trace.steps)}
    for index, step in enumerate(trace.steps):
        last |= dict.fromkeys(step.reads, index)
    return last | {trace.result: len(trace.steps)}


def _alone(name: str) -> Unit:
    return Unit(name, (name,), f"input of {name}", f"output of {name}")


def _layers(network: nn.Module, trace: Trace, calls: dict[str, int], kind: UnitKind) -> list[Unit]:
    readers: dict[str, list[Step]] = {}
    for step in trace.steps:
        for name in step.reads:
            readers.setdefault(name, []).append(step)
    found: dict[str, Unit] = {}
    for step in trace.steps:
        for name in step.layers:
            # A layer that runs several times is fitted to all its inputs at once, by hooks.
            alone = step.whole or calls.get(name) != 1
            if name not in calls or name in found:
                continue
            if alone:
                found[name] = _alone(name)
                continue
            chain = _chain(step, readers, trace.result) if kind == "layer" else [step]
            found[name] = Unit(name, (name,), step.reads[0], chain[-1].name, tuple(link.name for link in chain))
    return list(found.values())


def _chain(step: Step, readers: dict[str, list[Step]], output: str) -> list[Step]:
    chain = [step]
    while chain[-1].name != output and len(following := readers.get(chain[-1].name, [])) == 1:
        if following[0].layers or len(following[0].reads) > 1 or not following[0].tensor:
            break
        chain.append(following[0])
    return chain


def _blocks(network: nn.Module, trace: Trace, calls: dict[str, int], kind: UnitKind) -> list[Unit]:
    pieces: list[tuple[list[Step], bool]] = []  # (steps, it is a straight line)
    for part in between_cuts(trace):
        straight = len(part) == 1 and not part[0].whole
        if not any(step.layers for step in part):
            if pieces:
                pieces[-1][0].extend(part)
            continue
        line = sum(bool(step.layers) for step in pieces[-1][0]) if pieces and pieces[-1][1] and straight else STRAIGHT
        if line < STRAIGHT:
            pieces[-1][0].extend(part)
        else:
            pieces.append((list(part), straight))
    owners = _owners(network)
    return [_block(steps) for steps in _joined([steps for steps, _ in pieces], owners)]


def between_cuts(trace: Trace) -> list[list[Step]]:
    """The steps, cut behind every value through which everything flows."""
    last = _last_reads(trace)
    parts: list[list[Step]] = [[]]
    latest = last[trace.source]
    for index, step in enumerate(trace.steps):
        parts[-1].append(step)
        if step.tensor and latest <= index:
            parts.append([])
        latest = max(latest, last[step.name])
    return [part for part in parts if part]


def _joined(pieces: Sequence[list[Step]], owners: dict[str, str]) -> list[list[Step]]:
    """Pieces that share a weight become one, with everything between them."""
    found: list[list[Step]] = []
    for piece in pieces:
        own = {owners[name] for step in piece for name in step.layers}
        same = [
            index
            for index, earlier in enumerate(found)
            if own & {owners[name] for step in earlier for name in step.layers}
        ]
        if same:
            found[same[0] :] = [[step for earlier in [*found[same[0] :], piece] for step in earlier]]
        else:
            found.append(piece)
    return found


def _block(steps: list[Step]) -> Unit:
    layers = tuple(dict.fromkeys(name for step in steps for name in step.layers))
    inner = {step.name for step in steps}
    source = next(name for step in steps for name in step.reads if name not in inner)
    return Unit(_name(layers), layers, source, steps[-1].name, tuple(step.name for step in steps))


def _name(layers: tuple[str, ...]) -> str:
    return layers[0] if len(layers) == 1 else f"{layers[0]} .. {layers[-1]}"


def _network(network: nn.Module, trace: Trace, calls: dict[str, int], kind: UnitKind) -> list[Unit]:
    block = _block(list(trace.steps))
    return [Unit("network", block.layers, trace.source, trace.result, block.steps)]
