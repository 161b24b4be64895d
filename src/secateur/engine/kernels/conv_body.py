"""What the parts of a convolution kernel share while it is written: its arguments, and how its numbers look."""

from secateur.engine.emit.builder import F32, I32, I64, KernelBody, Value
from secateur.engine.kernels.conv_form import ConvForm
from secateur.engine.kernels.requantize import Results


class ConvBody:
    """One kernel that is being written.

    f           the body
    width       bytes of a vector
    pointers    arguments that are addresses
    unit        bytes from one place of the input to the next
    results     what becomes of sums of integers; None for floats
    type        of sums; `element` of inputs and weights
    """

    def __init__(self, kernel: ConvForm, body: KernelBody) -> None:
        self.kernel = kernel
        self.f = body
        self.width = 4 * body.lanes
        self.pointers = {
            name: body.pointer(name)
            for name in ("x", "y", "bias", "units", "tiles", "panels", "deltas", "weights", "rows", "masks")
        }
        self.unit = body.integer("unit")
        self.results = Results(body, kernel.requantize, kernel.activation) if kernel.requantize else None
        self.quads = self.results is not None and self.results.how.quads
        self.type = I32 if self.results else F32  # of sums
        self.element = I32 if self.results or kernel.pairs else F32
        if kernel.residual:
            self.pointers["residual"] = body.pointer("residual")
        if kernel.packed:
            self.pointers["pack_offsets"] = body.pointer("pack_offsets")

    def row_address(self, row: Value, r: int) -> Value:
        """Bytes from the tensor's first plane to the plane of a panel's row r; negative for a row that only pads."""
        return self.f.load_i64(self.pointers["rows"], self.f.b.add(row, self.f.i64(r)), I64)

    def residual_row(self, tile: dict[str, Value], row: Value, r: int, place: Value) -> Value:
        """Address of the tile in the residual's plane for a panel's row r, which is written at `place`."""
        f = self.f
        if self.results:
            place = f.load_i64(f.pointer("residual_rows"), f.b.add(row, f.i64(r)), I64)
        return f.at(f.at(self.pointers["residual"], tile["residual"]), place)

    def flag(self, name: str) -> Value:
        """An argument that is 0 or 1."""
        return self.f.b.icmp_signed("!=", self.f.integer(name), self.f.i64(0))
