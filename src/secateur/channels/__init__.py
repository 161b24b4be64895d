"""Channels of networks: which go together, and removing them."""
