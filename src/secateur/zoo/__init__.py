"""Models, weights and images by name."""

from secateur.zoo.data import check_classes, data
from secateur.zoo.head import classes_of
from secateur.zoo.image_data import ImageData
from secateur.zoo.loader import Loader, loader, numpy_batches
from secateur.zoo.metadata import metadata_of
from secateur.zoo.models import model, model_sources, models, preprocessing_of
from secateur.zoo.onnx_preprocessing import onnx_input_size, onnx_preprocessing
from secateur.zoo.preprocessing import Preprocessing
from secateur.zoo.weights import load_state_, load_weights_

__all__ = [
    "ImageData",
    "Loader",
    "Preprocessing",
    "check_classes",
    "classes_of",
    "data",
    "load_state_",
    "load_weights_",
    "loader",
    "metadata_of",
    "model",
    "model_sources",
    "models",
    "numpy_batches",
    "onnx_input_size",
    "onnx_preprocessing",
    "preprocessing_of",
]
