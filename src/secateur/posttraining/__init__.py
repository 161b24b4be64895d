"""Sparsity after training: few unlabeled images, no gradients needed."""

from secateur.posttraining.geometry import Geometry, columns_of, geometry_of
from secateur.posttraining.gram import Gram, GramSum
from secateur.posttraining.inverse import Inverse, inverse_of
from secateur.posttraining.problem import Compressed, output_error
from secateur.posttraining.second_order import compress_layer, corrected_target, refit

__all__ = [
    "Compressed",
    "Geometry",
    "Gram",
    "GramSum",
    "Inverse",
    "columns_of",
    "compress_layer",
    "corrected_target",
    "geometry_of",
    "inverse_of",
    "output_error",
    "refit",
]
