"""Sparsity after training: few unlabeled images, no gradients needed."""

from secateur.posttraining.bias_correction import correct_biases_
from secateur.posttraining.calibration import Calibration, choose_batches, choose_images
from secateur.posttraining.coefficients import Found, SearchSettings, search_coefficients
from secateur.posttraining.costs import CostFacts, Costs, costs_of
from secateur.posttraining.data_free import SubjectFacts, sparsify_data_free_
from secateur.posttraining.database import Database
from secateur.posttraining.database_filling import build_database
from secateur.posttraining.dynamic import Choice, Option, choose, solvers
from secateur.posttraining.fold_norms import fold_norms_
from secateur.posttraining.frontier import Frontier, Point, frontier
from secateur.posttraining.gathering import gather_grams
from secateur.posttraining.geometry import Geometry, columns_of, geometry_of
from secateur.posttraining.gram import Gram, GramSum
from secateur.posttraining.inverse import Inverse, inverse_of
from secateur.posttraining.losses import Divergence, Losses, measure_losses
from secateur.posttraining.match_statistics import match_statistics_
from secateur.posttraining.mean_shift import shift_means_
from secateur.posttraining.norms_again import estimate_norms_again_
from secateur.posttraining.output_statistics import FreshGrams
from secateur.posttraining.problem import Compressed, output_error
from secateur.posttraining.second_order import compress_layer, corrected_target, refit
from secateur.posttraining.stitch import StitchSettings, apply_, solve
from secateur.posttraining.stitched import Stitched, StitchedLayer
from secateur.posttraining.stored_grams import StoredGrams
from secateur.posttraining.subject import Subject
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.posttraining.subject_torch import TorchSubject
from secateur.posttraining.target import Target
from secateur.posttraining.weight_correction import correct_weights, correct_weights_

__all__ = [
    "Calibration",
    "Choice",
    "Compressed",
    "CostFacts",
    "Costs",
    "Database",
    "Divergence",
    "Found",
    "FreshGrams",
    "Frontier",
    "Geometry",
    "Gram",
    "GramSum",
    "Inverse",
    "Losses",
    "OnnxSubject",
    "Option",
    "Point",
    "SearchSettings",
    "StitchSettings",
    "Stitched",
    "StitchedLayer",
    "StoredGrams",
    "Subject",
    "SubjectFacts",
    "Target",
    "TorchSubject",
    "apply_",
    "build_database",
    "choose",
    "choose_batches",
    "choose_images",
    "columns_of",
    "compress_layer",
    "correct_biases_",
    "correct_weights",
    "correct_weights_",
    "corrected_target",
    "costs_of",
    "estimate_norms_again_",
    "fold_norms_",
    "frontier",
    "gather_grams",
    "geometry_of",
    "inverse_of",
    "match_statistics_",
    "measure_losses",
    "output_error",
    "refit",
    "search_coefficients",
    "shift_means_",
    "solve",
    "solvers",
    "sparsify_data_free_",
]
