"""Orders of channels and filters in which a pattern removes less."""

from secateur.sparsity.permutation.blocks import BlockRows, balanced_rows, similar_order, sorted_order
from secateur.sparsity.permutation.search import FoundOrder, search_order
from secateur.sparsity.permutation.stripes import arrangement_count, arrangements, kept_magnitude, most_kept

__all__ = [
    "BlockRows",
    "FoundOrder",
    "arrangement_count",
    "arrangements",
    "balanced_rows",
    "kept_magnitude",
    "most_kept",
    "search_order",
    "similar_order",
    "sorted_order",
]
