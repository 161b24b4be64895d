"""Ways of training that choose the masks themselves, each a hook of the loop that ends with ordinary masks."""

from secateur.training.methods.acdc import AcDcPhases
from secateur.training.methods.admm import AdmmPull
from secateur.training.methods.learned_thresholds import LearnedThresholds
from secateur.training.methods.probmask import MaskProbabilities
from secateur.training.methods.rigl import DropAndGrow

__all__ = ["AcDcPhases", "AdmmPull", "DropAndGrow", "LearnedThresholds", "MaskProbabilities"]
