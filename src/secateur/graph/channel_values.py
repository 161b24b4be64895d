"""Channels that are the same number everywhere, and those that nobody needs.

A channel whose weights are all zero is act(bias) at every pixel, whatever the image. On its way it stays one number, if
no zero padding joins it, and what is added to it is one too; behind a gate, if it is zero or the gate is constant.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secateur.graph.activations import apply_activation
from secateur.graph.channel_paths import Flags, Link, Paths, Place, Readers, mixes
from secateur.graph.ir import RESIDUAL, Node

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Constant:
    """(channels,) which channels are one number, and which number; 0 for the others."""

    known: Flags
    values: Doubles


@dataclass(frozen=True)
class Sink:
    """A node that mixes the channels.

    needed     (channels,) whether a weight that reads the channel is not zero
    absorbs    (channels,) whether the channel is one number, `values`, that the bias can take over
    """

    node: Node
    place: Place
    needed: Flags
    absorbs: Flags
    values: Doubles

    @property
    def free(self) -> Flags:
        """(channels,) which channels the node can do without."""
        return ~self.needed | self.absorbs


def sinks_of(readers: Readers, paths: Paths) -> Sequence[Sink]:
    """What the nodes at the ends of complete paths make of the channels."""
    at: dict[Place, Constant] = {}
    for link in paths.links:
        at[link.target] = _linked(readers, link, [at[source] for source in link.sources], paths.channels)
    return [_sink(readers, node, place, at[place], paths.channels) for node, place in paths.sinks]


def _sink(readers: Readers, node: Node, place: Place, constant: Constant, channels: int) -> Sink:
    needed = readers.needed(node, place, channels)
    padded = any(node.attributes.get("pads", ()))
    absorbs = constant.known & (constant.values == 0) if padded else constant.known
    return Sink(node, place, needed, absorbs, constant.values)


def _linked(readers: Readers, link: Link, sources: Sequence[Constant], channels: int) -> Constant:
    """What is known of the channels that a node writes."""
    graph, node, place = readers.graph, link.node, link.target
    residual = sources[-1] if node.op in RESIDUAL and node.input(RESIDUAL[node.op]) else None
    first = sources[0] if sources else Constant(np.zeros(channels, bool), np.zeros(channels))

    def operand(index: int) -> Doubles | None:
        """One number for each of the channels; None where the node was not given that."""
        if not node.input(index):
            return None
        return graph.constants[node.inputs[index]][place.base : place.base + channels].astype(np.float64)

    known, values, slopes = first.known, first.values, None
    activation = node.attributes.get("activation")
    match node.op:
        case "Conv" | "Linear":
            known, values = _filtered(readers, node, place, first, channels)
            values = values + _or_zero(operand(2))
            slopes = operand(4)
        case "SqueezeExcite":
            still = ~readers.rows(node.inputs[3])[place.base : place.base + channels]
            gates = apply_activation(node.attributes["gate"], np.zeros(channels) + _or_zero(operand(4)))
            known, values = known & (still | (values == 0)), values * np.where(still, gates, 0)
        case "Add":
            known, values = known & sources[1].known, values + sources[1].values
        case "Activate":
            slopes = operand(1)
        case "ScaleShift":
            values = values * _or_zero(operand(1)) + _or_zero(operand(2))
        case "Pool":
            if any(node.attributes["pads"]) and node.attributes["kind"] == "average":
                known = known & ((values == 0) | (not node.attributes["count_include_pad"]))
        case _:
            pass  # GlobalPool, Concat, Reshape
    if residual is not None:
        known, values = known & residual.known, values + residual.values
    return _finite(known, apply_activation(activation, values, slopes))


def _filtered(readers: Readers, node: Node, place: Place, first: Constant, channels: int) -> tuple[Flags, Doubles]:
    """Behind the weights of a Conv or Linear, before its bias."""
    rows = readers.rows(node.inputs[1])[place.base : place.base + channels]
    if mixes(readers.graph, node):
        return ~rows, np.zeros(channels)
    own = readers.graph.constants[node.inputs[1]][place.base : place.base + channels].astype(np.float64)
    sums = own.reshape(channels, -1).sum(1) * first.values
    padded = any(node.attributes["pads"])
    return ~rows | (first.known & ((first.values == 0) | (not padded))), sums


def _or_zero(values: Doubles | None) -> Doubles | float:
    return 0.0 if values is None else values


def _finite(known: Flags, values: Doubles) -> Constant:
    """Without what float32 cannot hold."""
    with np.errstate(over="ignore"):
        known = known & np.isfinite(values.astype(np.float32))
    return Constant(known, np.where(known, values, 0.0))
