"""ConvTranspose nodes: one convolution for all phases of the result (lowering.phases), then the phases in turns."""

import numpy as np
from numpy.typing import NDArray

from secateur.engine.facts import LayerFacts
from secateur.engine.kernels.interleave import MOST_SHUFFLED, Interleave
from secateur.engine.layout import Planes, planes
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.conv import emit_conv
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.lowering.depthwise import emit_depthwise, is_depthwise
from secateur.engine.lowering.epilogue import Epilogue
from secateur.engine.lowering.parts import parts_of_rows
from secateur.engine.lowering.phases import Phases, phase_bias, phase_weight, phases_of
from secateur.engine.lowering.refusals import convolution
from secateur.engine.lowering.relayout import plane_offsets
from secateur.engine.weights.pattern import detect
from secateur.graph.ir import Node


@lowers("ConvTranspose", refuses=convolution)
def conv_transpose(node: Node, context: Context) -> None:
    """ConvTranspose of the normal form: inputs (x, w, bias)."""
    graph = context.graph
    phases = phases_of(node, graph)
    shape = phases.shape
    original = graph.constants[node.inputs[1]]
    weight = phase_weight(phases, original)
    bias = phase_bias(phases, graph.constants[node.input(2)]) if node.input(2) else None
    x, y = context.tensor(node.inputs[0]), context.place(node.outputs[0])
    result = y if phases.strides == (1, 1) else context.temporary(_sums_layout(shape, x))
    epilogue = Epilogue(activation=node.attributes.get("activation"))
    own = detect(_outputs_first(original, shape.groups), shape.groups)
    decision = None
    if is_depthwise(shape):
        kernel = emit_depthwise(context, node.name, shape, weight, bias, x, result, epilogue).name
        stored = weight.nbytes
    else:
        _, decision = context.decide(node.name, shape, weight)
        streams, kernel = emit_conv(context, node.name, shape, weight, bias, x, result, decision.choice, epilogue)
        stored = streams.nbytes
    if result is not y:
        _interleave(context, node.name, phases, result, y)
    macs = shape.n * shape.h * shape.w * original.size
    context.layers.append(
        LayerFacts(
            layer=node.name,
            operator="conv transpose",
            shape=original.shape,
            output=graph.shape(node.outputs[0]),
            density=own.density,
            pattern=str(own),
            kernel=kernel,
            choice=decision.choice if decision else None,
            macs=macs,
            work=round(macs * own.density),
            weight_bytes=stored,
            reason=decision.reason if decision and own.kind != "dense" else "",
            candidates=decision.candidates if decision else (),
        )
    )


def _outputs_first(weight: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    """(C, O / groups, kh, kw) as (O, C / groups, kh, kw)."""
    c, per_group, *kernel = weight.shape
    grouped = weight.reshape(groups, c // groups, per_group, *kernel).swapaxes(1, 2)
    return np.ascontiguousarray(grouped).reshape(groups * per_group, c // groups, *kernel)


def _sums_layout(shape: ConvShape, x: Tensor) -> Planes:
    """The layout of the phases: with the input's pitch where that has room for the borders."""
    wanted = (shape.n, shape.o, shape.out_h, shape.out_w)
    pad = shape.out_border
    if isinstance(x.layout, Planes) and x.layout.pad >= shape.border:
        pad = max(pad, x.layout.pitch - shape.out_w)
    return planes(wanted, pad)


def _interleave(context: Context, layer: str, phases: Phases, source: Tensor, target: Tensor) -> None:
    shape, (sh, sw) = phases.shape, phases.strides
    outputs = shape.o // (sh * sw)
    per_group = outputs // shape.groups
    (offsets, source_row), (targets, target_row) = plane_offsets(source), plane_offsets(target)
    first_phases = offsets.reshape(shape.n, shape.groups, sh * sw, per_group)[:, :, 0].reshape(-1)
    height, width = phases.outputs
    rows, parts = parts_of_rows(context, len(targets), height)
    plane = source.planes.plane_stride
    context.emit(
        layer,
        Interleave(sw if sw <= MOST_SHUFFLED else 0),
        {
            "x": source.address,
            "y": target.address,
            "sources": first_phases,
            "targets": targets,
            "parts": parts,
            "rows": rows,
            "h": height,
            "w": width,
            "source_row": source_row,
            "target_row": target_row,
            "phase_row": sw * per_group * plane,
            "phase_column": per_group * plane,
            "stride_h": sh,
            "stride_w": sw,
        },
        len(targets) * parts,
        reads=(source,),
        writes=(target,),
    )
