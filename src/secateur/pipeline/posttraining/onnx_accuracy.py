"""Accuracy of the network in an ONNX file while it is worked on, through ONNX Runtime."""

from torch import Tensor, nn

from secateur.errors import DataError
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.training import Accuracy, evaluate
from secateur.zoo import ImageData, loader


class _Runs(nn.Module):
    """A subject as what `evaluate` measures."""

    def __init__(self, subject: OnnxSubject) -> None:
        super().__init__()
        self.subject = subject

    def forward(self, images: Tensor) -> Tensor:
        return self.subject.run(images)


def onnx_accuracy(subject: OnnxSubject, data: ImageData, limit: int | None) -> Accuracy:
    """On the test images, `limit` of them."""
    return evaluate(_Runs(subject), data, subject.preprocessing, limit=limit, device="cpu")


def check_classes(subject: OnnxSubject, data: ImageData) -> None:
    """raises DataError for images of other classes than the network's"""
    images, _ = next(iter(loader(data, "test", subject.preprocessing, batch_size=1, limit=1)))
    outputs = subject.run(images).shape[1]
    if outputs != len(data.classes):
        raise DataError(
            f"{data.name}: has {len(data.classes)} classes, but the model has {outputs} outputs; give a class list of "
            f"{outputs} lines, or images of the classes that it was trained on."
        )
