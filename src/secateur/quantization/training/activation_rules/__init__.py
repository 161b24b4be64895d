"""Rules that round activations; importing them files them in `activation_rules`."""

from secateur.quantization.training.activation_rules import affine, clipped, lsq, pact

__all__ = ["affine", "clipped", "lsq", "pact"]
