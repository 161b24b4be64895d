"""Weights as data for kernels: which zeros form a pattern, and the streams that kernels walk."""
