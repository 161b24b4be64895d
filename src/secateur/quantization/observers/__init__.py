"""One file per family of observers. Importing this package registers them."""

from secateur.quantization.observers.extremes import Average, MinMax, Moving
from secateur.quantization.observers.moments import Gauss, Laplace, NStd
from secateur.quantization.observers.shapes import Entropy, Percentile, SquaredError

__all__ = ["Average", "Entropy", "Gauss", "Laplace", "MinMax", "Moving", "NStd", "Percentile", "SquaredError"]
