"""Forms of the convolution kernel, and the tables that it reads (written by `secateur.engine.lowering.tiles`)."""

from dataclasses import dataclass

from secateur.engine.emit.activations import symbol
from secateur.engine.kernels.requantize import INTEGERS, Requantize
from secateur.graph.ir import Activation

# Columns of the tables.
TILE_FIELDS = ("x", "y", "residual", "mask", "size")  # i64: bytes, bytes, bytes, vectors, index into `vectors`
UNIT_FIELDS = ("tile", "panel_begin", "panel_end", "pack_begin", "pack_end")  # i32
PANEL_FIELDS = ("x", "delta", "weight", "row", "ahead")  # i32: units, indices, units; then one count per loop
# Positions between a prefetch and its use: a tile's inputs lie in L2 or further, one plane apart, which no hardware
# prefetcher follows (8 measured best on Cascade Lake, 8 to 15 % over none).
AHEAD = 8

FIELDS = (
    *("x", "y", "residual", "bias", "units", "tiles", "panels", "deltas", "weights", "rows", "masks", "unit"),
    *("pack_offsets", "slope", "first", "last", "pack_shift", "pack_most"),
)
# Of kernels that requantize: a scale for each row of the panels, where the residual's planes begin, row by row as in
# `rows`, and the constants of requantize.
MORE_FIELDS = ("scales", "residual_rows", "numbers", *INTEGERS)


@dataclass(frozen=True)
class ConvForm:
    """A convolution over tiles and panels.

    rows            R, output channels of a panel
    vectors         V of each tile size that occurs, largest first
    patterns        bit r of a pattern says that row r is nonzero; () for rows in lockstep
    shared_deltas   all panels use the positions of the first (dense)
    packed          a tile's input is copied to scratch before its panels are computed
    partial         the step computes one block of positions; sums wait in the output between the steps of a layer
    masked          lanes outside the map exist and are stored as zero
    prefetch        ask for the inputs of the position AHEAD further on; one pattern only
    requantize      quads are multiplied, and this happens to their sums; None for floats. Results in quads need panels
                    of whole quads of rows
    pairs           inputs and weights are pairs of bf16 numbers; everything else is float32
    of_bytes        inputs lie in planes of bytes, one a channel, and positions are walked four at a time, by blocks of
                    so many rows (conv_bytes); 0: inputs are quads, pairs or floats
    """

    rows: int
    vectors: tuple[int, ...]
    patterns: tuple[int, ...]
    activation: Activation | None = None
    residual: bool = False
    shared_deltas: bool = False
    packed: bool = False
    partial: bool = False
    masked: bool = True
    prefetch: bool = False
    requantize: Requantize | None = None
    pairs: bool = False
    of_bytes: int = 0

    @property
    def fields(self) -> tuple[str, ...]:
        """Argument slots."""
        return (*FIELDS, *MORE_FIELDS) if self.requantize else FIELDS

    @property
    def name(self) -> str:
        """For example f32_conv_4x6x5_full_relu_residual."""
        patterns = "_".join(f"{p:x}" for p in self.patterns) or "lockstep"
        if len(self.patterns) == 2**self.rows - 1:
            patterns = "all"
        if self.patterns == (2**self.rows - 1,):
            patterns = "full"
        if self.of_bytes:
            patterns = f"bytes{self.of_bytes}"
        kind = symbol(self.activation)
        flags = "".join(
            f"_{flag}"
            for flag in ("residual", "shared_deltas", "packed", "partial", "masked", "prefetch")
            if getattr(self, flag)
        )
        element, ends = ("i8", self.requantize.symbol) if self.requantize else ("bf16" if self.pairs else "f32", "")
        return f"{element}_conv_{self.rows}x{'x'.join(map(str, self.vectors))}_{patterns}_{kind}{flags}{ends}"

    @property
    def panel_words(self) -> int:
        """i32 words of a panel's record."""
        lists = self.rows // self.of_bytes if self.of_bytes else max(len(self.patterns), 1)
        return len(PANEL_FIELDS) + lists
