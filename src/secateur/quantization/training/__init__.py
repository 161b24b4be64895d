"""Training with rounded numbers: quantization-aware training of torch networks."""

from secateur.quantization.training.finish import Finished, finish_
from secateur.quantization.training.hook import RoundingSchedule
from secateur.quantization.training.prepare import Prepared, prepare_
from secateur.quantization.training.schemes import Scheme, schemes

__all__ = ["Finished", "Prepared", "RoundingSchedule", "Scheme", "finish_", "prepare_", "schemes"]
