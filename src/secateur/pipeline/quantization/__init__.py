"""Quantization, from a recipe's stage or a handful of options to files that runtimes compute with."""
