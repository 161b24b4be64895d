"""PocketFlow's run scripts: which network, which images, and how long it trains.

    resnet_at_cifar10     250 epochs at .1, a tenth at 100, 150, 200    --resnet_size 20
    resnet_at_ilsvrc12    100 epochs at .1, a tenth at 30, 60, 80, 90   --resnet_size 18
    mobilenet_at_ilsvrc12 v1: 100 epochs at .045, a tenth at 30, 60, 80, 90; v2: 412 epochs, .98 every epoch

Rates are for --batch_size_norm images a step and grow with the batch. --nb_epochs_rat scales all epochs.
"""

from dataclasses import dataclass
from typing import Any

from secateur.recipe.importers.reading import Fields, Reading
from secateur.registry import unknown


@dataclass(frozen=True)
class Script:
    """What a run script fixes."""

    model: str | None
    data: str | None
    epochs: int
    milestones: tuple[int, ...]
    learning_rate: float
    batch_norm: int
    batch_size: int
    weight_decay: float
    exponential: float | None = None


def script_of(reading: Reading, name: str, flags: Fields) -> Script:
    """The settings of a run script, by its file name. raises RecipeError where it is no classifier that we have."""
    base = name.removesuffix(".py").removesuffix("_run")
    size = flags.whole("resnet_size", 20 if "cifar10" in base else 18, low=1)
    version = flags.whole("mobilenet_version", 1, low=1)
    width = flags.number("mobilenet_depth_mult", 1.0, low=0.01)
    if base == "resnet_at_cifar10":
        return Script(f"resnet{size}_cifar10", "cifar10", 250, (100, 150, 200), 0.1, 128, 128, 2e-4)
    if base == "resnet_at_ilsvrc12":
        return Script(f"resnet{size}", None, 100, (30, 60, 80, 90), 0.1, 256, 64, 1e-4)
    if base == "mobilenet_at_ilsvrc12" and version == 1:
        model = f"mobilenet_v1_{round(100 * width):03d}_imagenet"
        return Script(model, None, 100, (30, 60, 80, 90), 0.045, 96, 64, 4e-5)
    if base == "mobilenet_at_ilsvrc12":
        model = "mobilenet_v2" if width == 1 else f"mobilenetv2_{round(100 * width):03d}"
        return Script(model, None, 412, (), 0.045, 96, 64, 4e-5, exponential=0.98)
    if reading.model is None:
        known = ("resnet_at_cifar10_run.py", "resnet_at_ilsvrc12_run.py", "mobilenet_at_ilsvrc12_run.py")
        reading.fail((), f"{unknown('script', name or '(none)', known)[:-1]}; give --model for another network.")
    return Script(None, None, 250, (100, 150, 200), 0.1, 128, 128, 2e-4)


def training_of(script: Script, flags: Fields) -> dict[str, Any]:
    """The training of a script with its flags."""
    ratio = flags.number("nb_epochs_rat", 1.0, low=0.0)
    epochs = min(round(script.epochs * ratio), 10_000)
    batch = flags.whole("batch_size", script.batch_size, low=1)
    norm = flags.number("batch_size_norm", script.batch_norm, low=1)
    rate = flags.number("lrn_rate_init", script.learning_rate, low=1e-12) * batch / norm
    steps = sorted({round(epoch * ratio) for epoch in script.milestones} - {0})
    steps = [epoch for epoch in steps if epoch < epochs]
    if script.exponential is not None:
        decay: dict[str, Any] = {"decay": "exponential", "step_gamma": script.exponential ** (1 / max(ratio, 1e-9))}
    else:
        decay = {"decay": "step", "step_epochs": steps, "step_gamma": 0.1} if steps else {"decay": "constant"}
    return {
        "epochs": epochs,
        "batch_size": batch,
        "optimizer": "sgd",
        "learning_rate": float(f"{rate:.10g}"),
        "momentum": flags.number("momentum", 0.9, low=0.0),
        "nesterov": False,
        "weight_decay": flags.number("loss_w_dcy", script.weight_decay, low=0.0),
        **decay,
    }
