"""Softmax, LayerNormalization, ReduceMean: operators along axes of any tensor."""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from secateur.engine.kernels.layer_norm import LayerNorm
from secateur.engine.kernels.mean import MeanColumns, MeanRows
from secateur.engine.kernels.softmax import SoftmaxColumns, SoftmaxRows
from secateur.engine.layout import Flat
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.in_place import place_over
from secateur.engine.lowering.parts import parts_of
from secateur.engine.lowering.refusals import normal_float32
from secateur.engine.lowering.relayout import to_flat, to_planes
from secateur.engine.lowering.walk import joined, rows_of, starts_of, strides_of
from secateur.engine.program import Argument
from secateur.graph.ir import Graph, Node

Ints = NDArray[np.int64]


@lowers("Softmax", "LogSoftmax", refuses=normal_float32)
def softmax(node: Node, context: Context) -> None:
    """Softmax, or its logarithm, along one axis."""
    x, y = context.tensor(node.inputs[0]), place_over(context, node, node.inputs)
    axis: int = node.attributes["axis"]
    log = node.op == "LogSoftmax"
    steps = np.array([strides_of(x), strides_of(y)], np.int64)
    others = [other for other in range(len(x.shape)) if other != axis]
    sizes, outer = [x.shape[other] for other in others], steps[:, others]
    if (steps[:, axis] == 1).all():
        starts = starts_of(sizes, outer)
        arguments = {**_rows(x, y, starts), "length": x.shape[axis]}
        context.emit(node.name, SoftmaxRows(log), arguments, starts.shape[1], reads=(x,), writes=(y,))
        return
    walk = rows_of(sizes, outer)
    part, parts = parts_of(context, walk.starts.shape[1], walk.length)
    arguments = {**_rows(x, y, walk.starts), "length": walk.length, "parts": parts, "part": part}
    arguments |= {"count": x.shape[axis], "source_step": int(steps[0, axis]), "target_step": int(steps[1, axis])}
    context.emit(node.name, SoftmaxColumns(log), arguments, walk.starts.shape[1] * parts, reads=(x,), writes=(y,))


@lowers("LayerNormalization", refuses=normal_float32)
def layer_normalization(node: Node, context: Context) -> None:
    """Normalization over the last axes; inputs (x, scale, bias)."""
    x, y = context.tensor(node.inputs[0]), place_over(context, node, node.inputs[:1])
    axis: int = node.attributes["axis"]
    out = y
    if not (_contiguous(x, axis) and _contiguous(y, axis)):
        x, out = to_flat(context, x), context.temporary(Flat(y.shape))
    steps = np.array([strides_of(x)[:axis], strides_of(out)[:axis]], np.int64).reshape(2, axis)
    starts = starts_of(x.shape[:axis], steps)
    scale = context.tensor(node.inputs[1])
    bias = context.tensor(node.inputs[2]) if node.input(2) else None
    length = prod(x.shape[axis:])
    context.emit(
        node.name,
        LayerNorm(bias is not None),
        {
            **_rows(x, out, starts),
            "scale": scale.address,
            "bias": bias.address if bias else 0,
            "length": length,
            "count": float(length),
            "epsilon": float(node.attributes["epsilon"]),
        },
        starts.shape[1],
        reads=(x,),
        writes=(out,),
    )
    if out is not y:
        to_planes(context, out, target=y)


def _refuses_mean(node: Node, graph: Graph) -> str | None:
    reason = normal_float32(node, graph)
    if reason is None and len(_reduced(graph.shape(node.inputs[0]), node.attributes["axes"])) > 1:
        return "it reduces axes that do not lie next to each other"
    return reason


@lowers("ReduceMean", refuses=_refuses_mean)
def reduce_mean(node: Node, context: Context) -> None:
    """Means over axes that are neighbours."""
    x, y = context.tensor(node.inputs[0]), context.place(node.outputs[0])
    axes: tuple[int, ...] = node.attributes["axes"]
    shape = x.shape
    target = _kept_steps(y, shape, axes)
    runs = _reduced(shape, axes)
    first, last = runs[0] if runs else (0, 0)
    if joined(shape[first:last], np.array([strides_of(x)[first:last]], np.int64).reshape(1, -1))[1].shape[1] > 1:
        x = to_flat(context, x)
    source = strides_of(x)
    others = [axis for axis in range(len(shape)) if not first <= axis < last]
    steps = np.array([source, target], np.int64).reshape(2, -1)
    sizes, outer = [shape[axis] for axis in others], steps[:, others]
    count, run = joined(shape[first:last], steps[:1, first:last])
    length, step = (count[0], int(run[0, 0])) if count else (1, 1)
    if step == 1:
        starts = starts_of(sizes, outer)
        arguments = {**_rows(x, y, starts), "length": length, "count": float(length)}
        context.emit(node.name, MeanRows(), arguments, starts.shape[1], reads=(x,), writes=(y,))
        return
    walk = rows_of(sizes, outer)
    part, parts = parts_of(context, walk.starts.shape[1], walk.length)
    arguments = {**_rows(x, y, walk.starts), "length": walk.length, "parts": parts, "part": part}
    arguments |= {"rows": length, "step": step, "count": float(length)}
    context.emit(node.name, MeanColumns(), arguments, walk.starts.shape[1] * parts, reads=(x,), writes=(y,))


def _rows(x: Tensor, y: Tensor, starts: Ints) -> dict[str, Argument]:
    return {"x": x.address, "y": y.address, "sources": starts[0], "targets": starts[1]}


def _contiguous(tensor: Tensor, axis: int) -> bool:
    """Whether the axes from `axis` on are one row."""
    steps = np.array([strides_of(tensor)[axis:]], np.int64)
    left = joined(tensor.shape[axis:], steps)[1]
    return left.shape[1] == 0 or (left.shape[1] == 1 and bool(left[0, 0] == 1))


def _reduced(shape: Sequence[int], axes: Sequence[int]) -> list[tuple[int, int]]:
    """Runs (first, one behind the last) of neighbouring axes that are reduced; axes of one element join anything."""
    runs: list[tuple[int, int]] = []
    open_ = False
    for axis, size in enumerate(shape):
        if axis in axes:
            if open_:
                runs[-1] = (runs[-1][0], axis + 1)
            elif size > 1:
                runs.append((axis, axis + 1))
                open_ = True
        elif size > 1:
            open_ = False
    return runs


def _kept_steps(y: Tensor, shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    """The result's steps along the axes of the operand; 0 along those that are reduced."""
    steps = strides_of(y)
    if len(steps) == len(shape):
        return [0 if axis in axes else step for axis, step in enumerate(steps)]
    kept = iter(steps)
    return [0 if axis in axes else next(kept) for axis in range(len(shape))]
