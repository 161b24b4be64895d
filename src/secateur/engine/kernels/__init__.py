"""Kernel templates: one file per template."""
