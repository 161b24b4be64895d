"""How well a network does on the test images.

Every process of a group evaluates its own share of the images; the counts are summed, so that all of them
return the accuracy on every image, each counted once."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.errors import DataError
from secateur.progress import track
from secateur.training import distributed
from secateur.training.placement import moved, placed
from secateur.zoo.image_data import ImageData
from secateur.zoo.loader import loader
from secateur.zoo.preprocessing import Preprocessing


@dataclass(frozen=True)
class Accuracy:
    """Of `images` test images.

    top1, top5    percent; with fewer than five classes top5 counts as many as there are
    loss          mean cross-entropy
    """

    top1: float
    top5: float
    loss: float
    images: int

    def __str__(self) -> str:
        return f"top-1 {self.top1:.2f} %, top-5 {self.top5:.2f} %, loss {self.loss:.4f} on {self.images} images"


def evaluate(
    model: nn.Module,
    data: ImageData,
    preprocessing: Preprocessing,
    *,
    batch_size: int = 256,
    limit: int | None = None,
    workers: int = 0,
    device: torch.device | str | None = None,
) -> Accuracy:
    """Top-1 and top-5 of `model` on the test images.

    limit     only the first so many images
    device    by default a GPU if there is one; afterwards the model is back where it was, in its own mode
    raises    DataError  no test images, or labels that the model has no output for
    """
    distributed.start()
    where = torch.device(device) if device is not None else distributed.device()
    with placed((model,), where, preprocessing.input_size) as layout:
        return accuracy_where_it_is(
            model, data, preprocessing, layout, batch_size=batch_size, limit=limit, workers=workers, name="evaluate"
        )


def accuracy_where_it_is(
    model: nn.Module,
    data: ImageData,
    preprocessing: Preprocessing,
    layout: torch.memory_format,
    *,
    batch_size: int,
    limit: int | None,
    workers: int,
    name: str,
) -> Accuracy:
    """`evaluate` of a model that is in its place and layout already."""
    device = next((p.device for p in model.parameters()), distributed.device())
    batches = loader(
        data,
        "test",
        preprocessing,
        batch_size=batch_size,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        workers=workers,
        limit=limit,
    )
    distributed.same_buffers_(model)
    totals = torch.zeros(4, dtype=torch.float64, device=device)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), track(len(batches), name) as progress:
            for images, labels in batches:
                inputs, targets = moved(images, labels, device, layout)
                outputs = model(inputs).float()
                check_labels(outputs, labels)
                totals += _counts(outputs, targets)
                progress.advance()
    finally:
        model.train(was_training)
    top1, top5, loss, images = distributed.sum_over_group(totals).tolist()
    if not images:
        raise DataError(f"{data.name} has no test images.")
    return Accuracy(100 * top1 / images, 100 * top5 / images, loss / images, int(images))


def check_labels(outputs: Tensor, labels: Tensor) -> None:
    """raises DataError unless the outputs are logits with one column at least for every label."""
    if outputs.ndim != 2:
        raise DataError(f"the model's output has shape {tuple(outputs.shape)}, not (images, classes).")
    if int(labels.max()) >= outputs.shape[1]:
        raise DataError(
            f"the model has {outputs.shape[1]} outputs, but an image has label {int(labels.max())}; "
            f"the model needs as many outputs as the data has classes."
        )


def _counts(outputs: Tensor, labels: Tensor) -> Tensor:
    ranked = outputs.topk(min(5, outputs.shape[1]), dim=1).indices == labels[:, None]
    loss = F.cross_entropy(outputs, labels, reduction="sum")
    images = torch.tensor(len(labels), device=labels.device)
    return torch.stack([count.double() for count in (ranked[:, 0].sum(), ranked.sum(), loss, images)])
