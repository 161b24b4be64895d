"""One weight tensor of a network, counted: its weights, its zeros, and the work that they do on one image.

    sparsity             s = zeros / n
    MACs of a layer      m = n * P                            n weights, P positions of one image
    sparse MACs          m_s = nnz * P

A zero weight saves its MAC at every position, border positions included. Batch 1.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Kind = Literal["conv", "depthwise", "linear", "conv_transpose"]

_SHAPES = ("shape", "input_shape", "output_shape")


@dataclass(frozen=True)
class LayerCount:
    """One weight tensor and the work it does on one image.

    shape                      as stored; a linear layer is (outputs, inputs)
    input_shape, output_shape  of the first call, without the batch dimension
    positions                  how often the weights are applied to one image: output positions (input
                               positions of a transposed convolution), summed over all calls when a layer is
                               reached twice
    channels, zero_channels    output channels, and those whose weights are all zero
    note                       what a reader must know: not reached, reached twice, shared
    bits                       of one weight: 32 of a float, 8 of a quantized one; its zeros are zero points then
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    groups: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    positions: int
    weights: int
    nonzeros: int
    channels: int = 0
    zero_channels: int = 0
    attributes: str = ""
    note: str = ""
    bits: int = 32

    @property
    def bytes(self) -> int:
        """What the weights take when they are stored one after the other, zeros included."""
        return -(-self.weights * self.bits // 8)

    @property
    def sparsity(self) -> float:
        """Fraction of zeros, base: this layer's weights."""
        return 1.0 - self.nonzeros / self.weights if self.weights else 0.0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image, zeros included."""
        return self.weights * self.positions

    @property
    def sparse_macs(self) -> int:
        """Multiply-accumulates of one image, by nonzero weights only."""
        return self.nonzeros * self.positions

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {key: list(getattr(self, key)) for key in _SHAPES}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "LayerCount":
        """The count that `to_dict` wrote. raises KeyError, TypeError, ValueError when it is something else."""
        if value["kind"] not in get_args(Kind):
            raise ValueError(f"layer kind '{value['kind']}'")
        shapes: dict[str, Any] = {key: tuple(int(side) for side in value[key]) for key in _SHAPES}
        return cls(**value | shapes)
