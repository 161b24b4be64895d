"""What writes the ONNX operators of one node of the normal form: their names, new values, constants, the output."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from secateur.graph.expand_activation import expand_activation
from secateur.graph.ir import Node
from secateur.graph.rewrite import Draft


@dataclass(frozen=True)
class Writer:
    """Writes the ONNX nodes that stand for one node of the normal form.

    draft    the graph that is being written
    node     of the normal form, whose outputs keep their names
    nodes    of the graph so far; what is written goes to its end
    """

    draft: Draft
    node: Node
    nodes: list[Node]

    @property
    def opset(self) -> int:
        """The graph's version of ONNX."""
        return self.draft.old.opset

    @property
    def out(self) -> str:
        """The first output of the node."""
        return self.node.outputs[0]

    def emit(self, op: str, inputs: Sequence[str], out: str | Sequence[str], **attributes: Any) -> None:
        """Write one ONNX node."""
        outputs = (out,) if isinstance(out, str) else tuple(out)
        used = list(inputs)
        while used and not used[-1]:
            used.pop()
        self.nodes.append(Node(f"{self.node.name}/{len(self.nodes)}", op, tuple(used), outputs, attributes))

    def step(self, op: str, inputs: Sequence[str], shape: Sequence[int] | None = None, **attributes: Any) -> str:
        """Write one ONNX node of a new float32 value, shaped as the node's output if not said otherwise."""
        return self.value(op, inputs, "float32", shape, **attributes)

    def value(
        self, op: str, inputs: Sequence[str], dtype: str, shape: Sequence[int] | None = None, **attributes: Any
    ) -> str:
        """Write one ONNX node of a new value of any type."""
        sides = self.draft.shape(self.out) if shape is None else shape
        value = self.draft.value(f"{self.out}/{len(self.nodes)}", sides, dtype)
        self.emit(op, inputs, value, **attributes)
        return value

    def array(self, values: Any) -> str:
        """A constant."""
        return self.draft.constant(f"{self.node.name}/c", np.asarray(values))

    def writing(self, out: str) -> "Writer":
        """The same writer for another output."""
        return replace(self, node=replace(self.node, outputs=(out,)))

    def number(self, value: float) -> str:
        """A float32 scalar constant."""
        return self.draft.constant(f"{self.node.name}/c", np.array(value, np.float32))

    def integers(self, values: Sequence[int]) -> str:
        """An int64 constant."""
        return self.draft.constant(f"{self.node.name}/i", np.array(tuple(values), np.int64))

    def finish(self, value: str, slope: str = "") -> None:
        """Write the node's output: its activation of `value`."""
        expand_activation(self, value, self.node.attributes.get("activation"), slope)

    def target(self, *more: str) -> str:
        """Where the main operator writes: the node's output when nothing follows, else a new value."""
        if self.node.attributes.get("activation") is None and not any(more):
            return self.out
        return self.draft.value(f"{self.out}/{len(self.nodes)}", self.draft.shape(self.out))
