"""What a convolution does with its sums before it stores them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secateur.engine.lowering.context import Tensor
from secateur.graph.ir import Activation


@dataclass(frozen=True)
class Epilogue:
    """activation(sum + residual), in this order.

    slope    (O,) of negative values, for prelu
    """

    residual: Tensor | None = None
    activation: Activation | None = None
    slope: NDArray[np.float32] | None = None
