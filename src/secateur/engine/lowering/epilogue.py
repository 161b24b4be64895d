"""What a convolution does with its sums before it stores them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secateur.engine.lowering.context import Tensor
from secateur.engine.lowering.requantized import Requantized
from secateur.graph.ir import Activation


@dataclass(frozen=True)
class Epilogue:
    """activation(sum + residual), in this order.

    slope         (O,) of negative values, for prelu
    requantized   sums are of quads: inputs, integer results and residual are quads, as tensors of 4-byte elements
    """

    residual: Tensor | None = None
    activation: Activation | None = None
    slope: NDArray[np.float32] | None = None
    requantized: Requantized | None = None

    @property
    def to_quads(self) -> bool:
        """Whether the results are integers."""
        return self.requantized is not None and self.requantized.how.quads
