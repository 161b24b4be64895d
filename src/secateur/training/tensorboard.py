"""Scalars for TensorBoard, one point an epoch: `tensorboard --logdir FOLDER`."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from secateur.progress import say
from secateur.training.history import Row

SCALARS = ("loss", "learning_rate", "train_accuracy", "top1", "top5", "test_loss", "sparsity")


@contextlib.contextmanager
def tensorboard_log(folder: Path, first_epoch: int) -> Iterator[Callable[[Row], None]]:
    """A function that logs one epoch to `folder`/tensorboard, or nothing where the package is missing.

    first_epoch    points of this epoch and later ones, which a killed run left behind, are hidden
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        say("No TensorBoard log: the tensorboard package is not installed (pip install tensorboard).")
        yield lambda row: None
        return
    with SummaryWriter(str(folder / "tensorboard"), purge_step=first_epoch) as writer:
        yield lambda row: _log(writer.add_scalar, writer.flush, row)


def _log(add_scalar: Callable[[str, float, int], None], flush: Callable[[], None], row: Row) -> None:
    for name in SCALARS:
        value = getattr(row, name)
        if value is not None:
            add_scalar(name, value, row.epoch)
    flush()
