"""Sparsity after training: few unlabeled images, no gradients needed."""

from secateur.posttraining.coefficients import Found, SearchSettings, search_coefficients
from secateur.posttraining.costs import CostFacts, Costs, costs_of
from secateur.posttraining.database import Database, build_database
from secateur.posttraining.dynamic import Choice, Option, choose, solvers
from secateur.posttraining.frontier import Frontier, Point, frontier
from secateur.posttraining.geometry import Geometry, columns_of, geometry_of
from secateur.posttraining.gram import Gram, GramSum
from secateur.posttraining.inverse import Inverse, inverse_of
from secateur.posttraining.losses import Divergence, Losses, measure_losses
from secateur.posttraining.problem import Compressed, output_error
from secateur.posttraining.second_order import compress_layer, corrected_target, refit
from secateur.posttraining.stitch import Stitched, StitchedLayer, StitchSettings, Target, apply_, solve

__all__ = [
    "Choice",
    "Compressed",
    "CostFacts",
    "Costs",
    "Database",
    "Divergence",
    "Found",
    "Frontier",
    "Geometry",
    "Gram",
    "GramSum",
    "Inverse",
    "Losses",
    "Option",
    "Point",
    "SearchSettings",
    "StitchSettings",
    "Stitched",
    "StitchedLayer",
    "Target",
    "apply_",
    "build_database",
    "choose",
    "columns_of",
    "compress_layer",
    "corrected_target",
    "costs_of",
    "frontier",
    "geometry_of",
    "inverse_of",
    "measure_losses",
    "output_error",
    "refit",
    "search_coefficients",
    "solve",
    "solvers",
]
