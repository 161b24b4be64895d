"""What in a float network is known to make quantization collapse, found before anything is rounded.

    dead channel       a filter's range below 1e-5 of the layer's largest: a step of its own would be nothing
    dead norm          a batch norm with gamma or variance near 0: folded, it makes such a filter
    one channel        with one step for the tensor, a filter so much larger than the others that these get few steps
    gate               a map multiplied with sigmoids (squeeze-excite): what is rounded twice is multiplied
    curve              hard-swish, SiLU and the like: most numbers lie in a small negative range beside large ones
    outliers           a value whose extremes lie 40 deviations from its mean and more

Reported collapses: MobileNetV3 and EfficientNet (squeeze-excite, hard-swish and SiLU), depthwise layers of MobileNets
with one step for all filters. The bounds are our own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from secateur.graph.constants import Constants, attribute
from secateur.graph.table import text_table
from secateur.quantization.seen import Statistics

Kind = Literal["dead channel", "dead norm", "one channel", "gate", "curve", "outliers"]
DEAD = 1e-5
SMALL_NORM = 1e-6
DOMINATED = 32.0
OUTLYING = 40.0
_CURVES = ("HardSwish", "Mish", "Gelu", "Elu", "Softplus")
_GATES = ("Sigmoid", "HardSigmoid")


@dataclass(frozen=True)
class Suspect:
    """One finding. where: name of a node or value."""

    where: str
    kind: Kind
    detail: str


@dataclass(frozen=True)
class Suspects:
    """All findings, in order of execution; prints as a table."""

    found: tuple[Suspect, ...]

    def of(self, kind: Kind) -> tuple[Suspect, ...]:
        """Those of one kind."""
        return tuple(suspect for suspect in self.found if suspect.kind == kind)

    def __str__(self) -> str:
        rows = [(suspect.where, suspect.kind, suspect.detail) for suspect in self.found]
        return text_table(("where", "what", "detail"), rows, left=3) if rows else "nothing suspicious"


def find_suspects(
    model: onnx.ModelProto,
    *,
    per_channel: bool = True,
    statistics: Mapping[str, Statistics] | None = None,
) -> Suspects:
    """Look a float model over.

    model          as it was trained, with its norms, or prepared
    per_channel    weights will have a step for every filter: then one large filter harms nobody
    statistics     value -> what calibration images showed of it
    raises         ModelError  a constant that cannot be read
    """
    constants = Constants(model.graph)
    producers = {output: node for node in model.graph.node for output in node.output}
    found: list[Suspect] = []
    for index, node in enumerate(model.graph.node):
        name = node.name or (node.output[0] if node.output else f"{node.op_type}_{index}")
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") and len(node.input) > 1:
            constant = constants.find(node.input[1])
            if constant is not None and constant.array.ndim >= 2:
                found += _of_weight(name, _filters(node, constant.array), per_channel)
        elif node.op_type == "BatchNormalization":
            found += _of_norm(name, constants, node)
        elif node.op_type in _CURVES:
            found.append(Suspect(name, "curve", node.op_type))
        elif node.op_type == "Mul" and len(node.input) == 2:
            found += _of_product(name, node, producers)
    for value, facts in (statistics or {}).items():
        if facts.std > 0:
            far = max(facts.max - facts.mean, facts.mean - facts.min) / facts.std
            if far >= OUTLYING:
                detail = f"{facts.min:.3g} to {facts.max:.3g}, {far:.0f} deviations from the mean"
                found.append(Suspect(value, "outliers", detail))
    return Suspects(tuple(found))


def _filters(node: onnx.NodeProto, weight: NDArray[np.floating]) -> NDArray[np.float64]:
    """(outputs, weights of each)."""
    last = node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0))
    first = node.op_type == "ConvTranspose" or last
    moved = np.moveaxis(weight, -1 if last else 1, 0) if first else weight
    return moved.reshape(len(moved), -1).astype(np.float64)


def _of_weight(name: str, filters: NDArray[np.float64], per_channel: bool) -> list[Suspect]:
    ranges = np.abs(filters).max(axis=1, initial=0.0)
    largest = float(ranges.max(initial=0.0))
    found: list[Suspect] = []
    dead = ranges < DEAD * largest
    if dead.any():
        smallest = float(ranges[dead].max())
        detail = f"{int(dead.sum())} of {len(ranges)} filters, ranges up to {smallest:.2g} beside {largest:.3g}"
        found.append(Suspect(name, "dead channel", detail))
    alive = ranges[~dead & (ranges > 0)]
    if not per_channel and len(alive) > 1 and largest >= DOMINATED * float(np.median(alive)):
        detail = f"filter {int(ranges.argmax())} has {largest:.3g}, half of the filters less than "
        found.append(Suspect(name, "one channel", f"{detail}{float(np.median(alive)):.3g}"))
    return found


def _of_norm(name: str, constants: Constants, node: onnx.NodeProto) -> list[Suspect]:
    read = [constants.find(operand) for operand in (node.input[1], node.input[4])]
    if any(constant is None for constant in read):
        return []
    gamma, variance = (np.abs(constant.array.astype(np.float64)) for constant in read if constant is not None)
    flat = int((gamma < SMALL_NORM).sum()), int((variance < SMALL_NORM).sum())
    if not any(flat):
        return []
    return [Suspect(name, "dead norm", f"{flat[0]} of {len(gamma)} gammas and {flat[1]} variances are nearly 0")]


def _of_product(name: str, node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> list[Suspect]:
    for gate, other in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
        producer = producers.get(gate)
        if producer is None or producer.op_type not in _GATES:
            continue
        if producer.input[0] == other:
            return [Suspect(name, "curve", "x times its own sigmoid (SiLU)")]
        return [Suspect(name, "gate", f"multiplies with '{producer.name or gate}' (squeeze-excite)")]
    return []
