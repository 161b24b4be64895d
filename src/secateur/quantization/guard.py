"""The collapse guard: layers go back to float, in order of noise, until the quantized network holds what it promised.

    score(quantized) >= score(float) - bound       score: top-1 agreement with the float network, or the caller's

1. Nodes are ranked by the noise of their own numbers (noise.py), the noisiest first.
2. 1, 2, 4, ... of them are returned until the bound holds; then the fewest that do are found by halving.
3. Each of those is quantized again, and stays so where the bound still holds: what is returned is what was broken.

What is said of each: its noise, what was suspicious about it before (suspects.py), and what it costs in milliseconds.

Our own design, after reported collapses of MobileNetV3 and EfficientNet.
"""

import glob
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from secateur.graph.table import text_table
from secateur.progress import track
from secateur.quantization.answers import logits_of, top1_agreement
from secateur.quantization.noise import LayerNoise, Noise, measure_noise
from secateur.quantization.points import points_of
from secateur.quantization.qdq import settled, write_qdq
from secateur.quantization.subjects import Batches, copy_of
from secateur.quantization.suspects import Suspects, find_suspects
from secateur.quantization.table import ScaleTable

# Of a hundred images some get another class without any loss of accuracy: MobileNetV1 in integers alone agrees on 94 of
# them and is .6 points less accurate. A bound of one sent 40 layers of MobileNetV2 back to float.
BOUND = 0.03


@dataclass(frozen=True)
class Returned:
    """One node that stays float.

    milliseconds    what the network takes longer with it; None where no latency was measured
    """

    node: str
    reason: str
    milliseconds: float | None


@dataclass(frozen=True)
class Guarded:
    """What the guard found; prints as a table.

    table           without the nodes that stay float
    model           the quantized file of that table
    source          the float file that it was written from: layers that stay float have their own weights again
    held            whether the bound holds
    score           of the float network, of the quantized one before and after
    """

    table: ScaleTable
    model: onnx.ModelProto
    source: onnx.ModelProto
    returned: tuple[Returned, ...]
    held: bool
    score: tuple[float, float, float]
    noise: Noise
    suspects: Suspects

    def __str__(self) -> str:
        reference, before, after = self.score
        lines = [f"score {reference:.4f} in float, {before:.4f} quantized, {after:.4f} with the list below"]
        if self.returned:
            rows = [
                (row.node, "" if row.milliseconds is None else f"{row.milliseconds:+.3f}", row.reason)
                for row in self.returned
            ]
            lines.append(text_table(("stays float", "ms", "why"), rows, left=3))
        else:
            lines.append("no layer stays float")
        if not self.held:
            lines.append("the bound does not hold, whatever stays float")
        return "\n".join(lines)


def guard(
    model: onnx.ModelProto,
    table: ScaleTable,
    batches: Batches,
    *,
    source: onnx.ModelProto | None = None,
    bound: float = BOUND,
    score: Callable[[onnx.ModelProto], float] | None = None,
    latency: Callable[[onnx.ModelProto], float] | None = None,
    suspects: Suspects | None = None,
) -> Guarded:
    """Return layers to float until the quantized network is good enough.

    model           prepared, that the table belongs to: the float network
    source          the same with weights and biases as they were rounded, where that was not to nearest
    bound           how far the score may fall, as a fraction
    score           of a file, as it is run by the runtime; by default the share of the calibration images that it
                    answers as the float file does
    latency         milliseconds of a file
    suspects        what was found before; by default the model is looked over here
    raises          QuantizationError  a model or table that cannot be run
    """
    work = _Work(model, source or model, table, batches, score)
    reference = work.score_of(model) if score is not None else 1.0
    before = work.score([])
    noise = measure_noise(model, table, batches)
    found = suspects or find_suspects(model)
    goal = reference - bound
    order = [layer.node for layer in noise.worst()]
    chosen: list[str] = [] if before >= goal else work.search(order, goal)
    after = work.score(chosen)
    rows: list[Returned] = []
    for index, node in enumerate(chosen):
        cost = None
        if latency is not None:
            cost = latency(work.written(chosen[: index + 1])) - latency(work.written(chosen[:index]))
        rows.append(Returned(node, _reason(noise[node], found), cost))
    final = work.table(chosen)
    reasons = {row.node: row.reason for row in rows}
    final = replace(final, floats={**final.floats, **reasons})
    written = work.source(chosen)
    scores = (reference, before, after)
    return Guarded(final, write_qdq(written, final), written, tuple(rows), after >= goal, scores, noise, found)


def without(model: onnx.ModelProto, table: ScaleTable, nodes: Collection[str]) -> ScaleTable:
    """The table with these nodes in float: values and weights that nobody rounds any more are left out of it.

    model    prepared
    nodes    names; what stays float already stays so
    """
    kept = tuple(glob.escape(name) for name in (*table.floats, *nodes))
    points = points_of(model, keep_float=kept)
    names = {name for group in points.groups for name in group.values}
    weights = {point.name for point in points.weights}
    return ScaleTable(
        {name: scale for name, scale in table.values.items() if name in names},
        {name: scale for name, scale in table.weights.items() if name in weights},
        {name: table.floats.get(name, reason) for name, reason in points.floats.items()},
    )


class _Work:
    """Scores of tables with some nodes returned, each computed once."""

    def __init__(
        self,
        model: onnx.ModelProto,
        source: onnx.ModelProto,
        table: ScaleTable,
        batches: Batches,
        score: Callable[[onnx.ModelProto], float] | None,
    ) -> None:
        self._model, self._source, self._table = model, source, table
        self._scores: dict[tuple[str, ...], float] = {}
        if score is None:
            wanted = logits_of(model, batches)
            self.score_of: Callable[[onnx.ModelProto], float] = lambda file: top1_agreement(
                wanted, logits_of(file, batches)
            )
        else:
            self.score_of = score

    def table(self, nodes: Sequence[str]) -> ScaleTable:
        if not nodes:
            return self._table
        return settled(self._source, without(self._model, self._table, nodes))

    def source(self, nodes: Sequence[str]) -> onnx.ModelProto:
        return _with_own_weights(self._source, self._model, nodes) if nodes else self._source

    def written(self, nodes: Sequence[str]) -> onnx.ModelProto:
        return write_qdq(self.source(nodes), self.table(nodes))

    def score(self, nodes: Sequence[str]) -> float:
        key = tuple(sorted(nodes))
        if key not in self._scores:
            self._scores[key] = float(np.nan_to_num(self.score_of(self.written(nodes)), nan=-np.inf))
        return self._scores[key]

    def search(self, order: Sequence[str], goal: float) -> list[str]:
        """Rules 2 and 3; all nodes where even that does not reach the goal."""
        with track(None, "collapse guard") as progress:

            def holds(nodes: Sequence[str]) -> bool:
                progress.advance(returned=str(len(nodes)), score=self.score(nodes))
                return self.score(nodes) >= goal

            high = 1
            while high < len(order) and not holds(order[:high]):
                high *= 2
            high = min(high, len(order))
            if high == len(order) and not holds(order):
                return list(order)
            low = high // 2
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if holds(order[:middle]) else (middle, high)
            chosen = list(order[:high])
            for node in order[:high]:
                fewer = [other for other in chosen if other != node]
                if fewer and holds(fewer):
                    chosen = fewer
            return chosen


def _with_own_weights(source: onnx.ModelProto, model: onnx.ModelProto, nodes: Sequence[str]) -> onnx.ModelProto:
    """`source` with the operands that these nodes have in `model`."""
    if source is model:
        return source
    changed = copy_of(source)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    here = {tensor.name for tensor in changed.graph.initializer}
    own = {node.name: node for node in model.graph.node}
    for node in changed.graph.node:
        if node.name not in nodes or node.name not in own:
            continue
        operands = list(own[node.name].input)
        for index, name in enumerate(operands):
            if name in tensors:
                operands[index] = f"{name}.float"
                if operands[index] not in here:
                    here.add(operands[index])
                    changed.graph.initializer.append(tensors[name])
                    changed.graph.initializer[-1].name = operands[index]
        del node.input[:]
        node.input.extend(operands)
    return changed


def _reason(noise: LayerNoise, suspects: Suspects) -> str:
    parts = [f"{noise.op} with {noise.own:.1f} dB of its own noise"]
    if noise.beyond > 0:
        parts.append(f"{noise.beyond:.2%} of what it reads beyond the range")
    parts += [f"{suspect.kind}: {suspect.detail}" for suspect in suspects.found if suspect.where == noise.node]
    return "; ".join(parts)
