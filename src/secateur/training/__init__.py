"""Training: a readable loop that can be killed and goes on, distillation, accuracy."""

from secateur.training.distill import distill
from secateur.training.distillation import soft_loss
from secateur.training.evaluate import Accuracy, evaluate
from secateur.training.history import History, Row
from secateur.training.learning_rate import learning_rate
from secateur.training.loop import fit
from secateur.training.statistics import gather_statistics
from secateur.training.tuning import TuneHistory, TuneRow
from secateur.training.unlabeled import tune_

__all__ = [
    "Accuracy",
    "History",
    "Row",
    "TuneHistory",
    "TuneRow",
    "distill",
    "evaluate",
    "fit",
    "gather_statistics",
    "learning_rate",
    "soft_loss",
    "tune_",
]
