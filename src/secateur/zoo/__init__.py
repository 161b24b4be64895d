"""Models, weights and images by name."""

from secateur.zoo.models import model, model_sources, models, preprocessing_of
from secateur.zoo.preprocessing import Preprocessing
from secateur.zoo.weights import load_weights_

__all__ = ["Preprocessing", "load_weights_", "model", "model_sources", "models", "preprocessing_of"]
