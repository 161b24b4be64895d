"""Inputs and outputs of programs: the caller's arrays.

Floats and other numbers stay where they are or go to planes. 8-bit integers become quads, or dense bytes as the engine
stores them: numbers of int8 plus 128, and a whole quad at the end.
"""

from secateur.engine.kernels.quad_bytes import FlipBytes
from secateur.engine.layout import INTEGERS, Flat, Picked, Planes, Quads, fill_word
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.parts import parts_of
from secateur.engine.lowering.quad_relayout import to_bytes, to_quads
from secateur.engine.lowering.relayout import convert, to_flat, to_planes
from secateur.engine.program import Port


def import_input(context: Context, port: Port) -> None:
    """Give an input of the program its place: the caller's own array, or a copy in planes or quads."""
    given = Tensor(Flat(port.shape), port.buffer)
    layout = context.layout_of(port.name)
    context.layer = port.name
    if isinstance(layout, Quads):
        context.places[port.name] = to_quads(context, given, layout, flip=port.dtype == "int8")
    elif port.dtype in INTEGERS:
        stored = context.temporary(layout, f"{port.name} (stored)", 1)
        _flip(context, given, stored, port.dtype)
        context.places[port.name] = stored
    else:
        context.places[port.name] = to_planes(context, given, layout) if isinstance(layout, Planes) else given


def export_output(context: Context, port: Port) -> None:
    """Write an output of the program into the caller's array."""
    context.layer = port.name
    value, target = context.tensor(port.name), Tensor(Flat(port.shape), port.buffer)
    if isinstance(value.layout, Quads):
        to_bytes(context, value, target, flip=port.dtype == "int8")
    elif isinstance(value.layout, Planes | Picked):
        to_flat(context, value, target)
    elif port.dtype in INTEGERS and value.constant is None:
        _flip(context, value, target, port.dtype)
    else:
        convert(context, value, target, port.dtype, port.dtype)


def _flip(context: Context, source: Tensor, target: Tensor, dtype: str) -> None:
    """Dense bytes from the caller's form to that of the engine, or back."""
    size = target.layout.size
    block, blocks = parts_of(context, 1, size)
    flip = fill_word(0x80) if dtype == "int8" else 0
    arguments = {"x": source.address, "y": target.address, "size": size, "block": block, "flip": flip}
    context.emit(context.layer, FlipBytes(), arguments, blocks, reads=(source,), writes=(target,))
