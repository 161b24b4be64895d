"""Operators on 8-bit integers: what they compute, and how files are read into them.

`grid` says which numbers bytes stand for, `arithmetic` what every operator computes, bit for bit.
"""

from secateur.graph.quantized.arithmetic import compute, row_factors
from secateur.graph.quantized.grid import Grid, bounds, is_linear, to_floats, to_integers

__all__ = ["Grid", "bounds", "compute", "is_linear", "row_factors", "to_floats", "to_integers"]
