"""Rules that round weights; importing them files them in `weight_rules`."""

from secateur.quantization.training.weight_rules import affine, buckets, codebook, dorefa, lsq, wrpn

__all__ = ["affine", "buckets", "codebook", "dorefa", "lsq", "wrpn"]
