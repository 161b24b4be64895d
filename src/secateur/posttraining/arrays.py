"""Tensors as arrays of numpy: what a cache keeps and a hash is taken of."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def array_of(tensor: Tensor) -> NDArray[Any]:
    """The same numbers, contiguous; bfloat16, which numpy does not have, as float32."""
    values = tensor.detach().cpu()
    return np.ascontiguousarray((values.float() if values.dtype == torch.bfloat16 else values).numpy())
