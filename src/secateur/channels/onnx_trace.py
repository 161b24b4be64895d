"""Dependency groups of an ONNX file, found by walking over its nodes once.

    every node gives its outputs ids (secateur.channels.ids) by the rule of its operator (secateur.channels.onnx_rules);
    an operator without a rule freezes the channels that reach it, and is named as the reason

Unlike in a torch network, the numbers that nodes carry (sizes of splits, shapes of reshapes, pads) can be rewritten, so
channels stay free behind them. Source: our own design.
"""

from collections.abc import Sequence
from pathlib import Path

import onnx

import secateur.channels.onnx_rules  # noqa: F401  (registers the rules)
from secateur.channels.groups import ChannelGroups
from secateur.channels.onnx_inputs import channel_axis
from secateur.channels.onnx_network import OnnxNetwork, read_network
from secateur.channels.onnx_rules.layers import freeze_outputs
from secateur.channels.onnx_table import OnnxTrace, called, lined, onnx_rules, refuse
from secateur.graph.ir import Node


def trace_onnx(
    source: Path | str | onnx.ModelProto | OnnxNetwork, input_size: Sequence[int] | None = None
) -> OnnxTrace:
    """The channels of an ONNX file.

    input_size    (channels, height, width) of the first input, where the file leaves sides open
    raises        ModelError
    """
    trace = OnnxTrace(source if isinstance(source, OnnxNetwork) else read_network(source, input_size))
    graph = trace.graph
    for name in graph.inputs:
        if name in graph.types:
            shape = trace.shape(name)
            axis = channel_axis(graph, trace.nodes_of, name)
            atoms = trace.ids.new(shape[axis] if len(shape) > 1 else 1)
            trace.ids.freeze(atoms, "input of the network")
            trace.set(name, lined(atoms, axis, len(shape)) if len(shape) > 1 else atoms)
    for node in graph.nodes:
        if node.name not in trace.done and any(trace.is_value(name) or _is_open(trace, name) for name in node.reads()):
            _visit(trace, node)
    trace.close()
    return trace


def groups_of_onnx(source: Path | str | onnx.ModelProto, input_size: Sequence[int] | None = None) -> ChannelGroups:
    """Which channels of an ONNX file go together, and which must stay, with the reason. raises ModelError."""
    return trace_onnx(source, input_size).ids.groups()


def _visit(trace: OnnxTrace, node: Node) -> None:
    known = trace.graph.types
    found = onnx_rules.get(node.op) if not node.domain and not node.captured() else None
    if found is None:
        refuse(trace, node, f"operator {called(node)}")
    elif not all(name in known for name in (*node.inputs, *node.outputs) if name):
        # What comes out of it may have any size: a constant it is not, even where all that follows is of known shape.
        reason = f"{called(node)}, whose shape cannot be inferred"
        refuse(trace, node, reason)
        freeze_outputs(trace, node, reason)
    else:
        found(trace, node)


def _is_open(trace: OnnxTrace, name: str) -> bool:
    """Whether nothing says what shape a value has: it may depend on data."""
    return name not in trace.graph.types and name not in trace.graph.constants
