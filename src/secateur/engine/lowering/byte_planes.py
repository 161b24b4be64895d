"""The source of a convolution as planes of bytes: what walks single channels of 8-bit integers reads."""

from secateur.engine.kernels.byte_planes import STEP, BytePlanes
from secateur.engine.layout import Flat, next_multiple
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.parts import parts_of
from secateur.engine.lowering.source import Source

# Bytes that a vector reads behind the last plane.
_BEHIND = 64


def byte_planes(context: Context, source: Source) -> tuple[Tensor, int]:
    """Four arrays of bytes in which everything lies as in the source; and how far one is from the next, in bytes.

    The tensor begins at the first array's byte for the source's first quad; what tiles read in front of it is there.
    """
    before = next_multiple(max(-source.shift, 0), STEP)
    size = before + next_multiple(source.tensor.maps.size, STEP)
    whole = context.temporary(Flat((4 * size + _BEHIND,)), item=1)
    part, parts = parts_of(context, 1, size, STEP)
    context.emit(
        context.layer,
        BytePlanes(),
        {
            "x": source.tensor.address,
            "y": whole.address,
            "before": before,
            "size": size,
            "part": part,
            "distance": size,
        },
        parts,
        reads=(source.tensor,),
        writes=(whole,),
    )
    return Tensor(whole.layout, whole.buffer, before), size
