"""The source of a convolution as planes of bytes: what walks single channels of 8-bit integers reads."""

from secateur.engine.kernels.byte_planes import STEP, BytePlanes
from secateur.engine.layout import Flat
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.relayout import UNITS_PER_THREAD
from secateur.engine.lowering.source import Source

# Quads that are not worth a second thread.
_LEAST_PART = 1024
# Bytes that a vector reads behind the last plane.
_BEHIND = 64


def byte_planes(context: Context, source: Source) -> tuple[Tensor, int]:
    """Four arrays of bytes in which everything lies as in the source; and how far one is from the next, in bytes.

    The tensor begins at the first array's byte for the source's first quad; what tiles read in front of it is there.
    """
    before = _up(max(-source.shift, 0), STEP)
    size = before + _up(source.tensor.maps.size, STEP)
    whole = context.temporary(Flat((4 * size + _BEHIND,)), item=1)
    part = max(_up(-(-size // (UNITS_PER_THREAD * context.threads)), STEP), min(size, _LEAST_PART))
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
        -(-size // part),
        reads=(source.tensor,),
        writes=(whole,),
    )
    return Tensor(whole.layout, whole.buffer, before), size


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
