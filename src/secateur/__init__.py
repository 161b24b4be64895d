"""Secateur makes vision networks small and measurably fast."""
