"""A recipe from a handful of options: what `secateur compress MODEL --pattern 1x4 ...` runs.

    train (only for a network without weights) -> evaluate -> remove channels (if asked)
    -> sparsify while training, with distillation; or one training over a table of levels
    -> finetune (if asked) -> evaluate -> quantize (if asked) -> export -> benchmark -> report

Data without training images gets its zeros at once, without training.
"""

from dataclasses import dataclass
from typing import Any, Literal

from secateur import zoo
from secateur.errors import RecipeError
from secateur.recipe import Data, Recipe, build_recipe

DENSE_EPOCHS = 15
SPARSE_EPOCHS = 10


@dataclass(frozen=True)
class Options:
    """What `compress` can be told in a line; everything else needs a recipe.

    weights           None: the library's own where it has some, otherwise the network is trained first
    epochs            while sparsifying; None: 10, or none where there are no training images
    train_epochs      of the dense network beforehand; None: 15 for a network without weights, otherwise none
    learning_rate     None: 0.1 for the dense network (0.001 with AdamW), a fifth of that for the sparse one
    sparsity          None: 0.8, or what the pattern fixes
    levels            one training over these sparsities, with an artifact of each; `epochs` are those of one level
    remove_channels   fraction of `channels_base` to take out as whole channels; zeros are then made only if
                      `sparsity` or `levels` asks for them
    quantize          numbers that the result gets too, calibrated on training images
    """

    weights: str | None = None
    data: str = "digits"
    classes: int | None = None
    root: str | None = None
    classes_file: str | None = None
    holdout: float | None = None
    crop_pct: float | None = None
    workers: int = 0
    train_limit: int | None = None
    test_limit: int | None = None
    pattern: str = "1x4"
    sparsity: float | None = None
    levels: tuple[float, ...] = ()
    remove_channels: float | None = None
    channels_base: Literal["macs", "parameters", "channels"] = "macs"
    channels_criterion: str = "l2"
    round_to: int = 1
    base: Literal["conv_linear", "selected"] = "conv_linear"
    criterion: str = "magnitude"
    allocation: str = "uniform"
    permute: bool = False
    rearrange: bool = False
    schedule: Literal["agp", "agp_iterations", "one_shot"] = "agp"
    exclude: tuple[str, ...] = ()
    include_first: bool = False
    include_depthwise: bool = False
    include_classifier: bool = False
    epochs: int | None = None
    train_epochs: int | None = None
    finetune_epochs: int = 0
    batch_size: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float | None = None
    weight_decay: float = 1e-4
    distill: bool = True
    quantize: Literal["int8", "fp16", "bf16"] | None = None
    batch: Literal["dynamic"] | int = "dynamic"
    runtimes: tuple[str, ...] = ()
    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = ()
    repeats: int = 100
    seed: int = 0


def recipe_of(model: str, options: Options, images: zoo.ImageData) -> Recipe:
    """The recipe that the options stand for, every choice written out. raises RecipeError."""
    _check_together(options)
    weights = options.weights if options.weights != "none" else None
    if options.weights is None and _has_pretrained(model):
        weights = "pretrained"
    can_train = images.train is not None
    train_epochs = options.train_epochs
    if train_epochs is None:
        train_epochs = DENSE_EPOCHS if weights is None and can_train else 0
    epochs = options.epochs if options.epochs is not None else (SPARSE_EPOCHS if can_train else 0)
    if not can_train and train_epochs + epochs + options.finetune_epochs:
        raise RecipeError(
            f"{images.name}: has no training images, so that no epochs can be trained; give data with a train split, "
            "a holdout share, or 0 epochs."
        )
    distillation = {"distillation": {}} if options.distill else {}
    given = options.learning_rate
    dense_rate = (0.1 if options.optimizer == "sgd" else 0.001) if given is None else given
    sparse_rate = dense_rate / 5 if given is None else given
    stages: list[dict[str, Any]] = []
    if train_epochs:
        training = _training(options, train_epochs, dense_rate) | {"warmup_epochs": min(2.0, train_epochs / 5)}
        stages.append({"stage": "train", "training": training})
    stages.append({"stage": "evaluate"})
    learning = {"training": _training(options, epochs, sparse_rate), **(distillation if epochs else {})}
    if options.remove_channels is not None:
        stages.append(
            {
                "stage": "remove_channels",
                "target": options.remove_channels,
                "base": options.channels_base,
                "criterion": options.channels_criterion,
                "exclude": options.exclude,
                "round_to": options.round_to,
                **learning,
            }
        )
    if options.levels:
        training = _training(options, epochs * len(options.levels), sparse_rate)
        stages.append({"stage": "levels", "table": options.levels, **_zeros(options), **learning, "training": training})
    elif options.remove_channels is None or options.sparsity is not None:
        schedule = {"kind": options.schedule}
        zeros = _zeros(options) | {"sparsity": options.sparsity, "schedule": schedule}
        stages.append({"stage": "sparsify", **zeros, **learning})
    if options.finetune_epochs:
        training = _training(options, options.finetune_epochs, sparse_rate / 5)
        stages.append({"stage": "finetune", "training": training, **distillation})
    stages += [
        {"stage": "evaluate"},
        *([{"stage": "quantize", "numbers": options.quantize}] if options.quantize else []),
        {"stage": "export", "batch": options.batch},
        {
            "stage": "benchmark",
            "runtimes": options.runtimes,
            "batches": options.batches,
            "threads": options.threads,
            "repeats": options.repeats,
        },
        {"stage": "report"},
    ]
    value = {
        "model": {"name": model, "weights": weights, "classes": options.classes},
        "data": data_of(options).model_dump(),
        "seed": options.seed,
        "stages": stages,
    }
    return build_recipe(value, source="the command")


def _check_together(options: Options) -> None:
    """Whether every option has something to say. raises RecipeError."""
    plain = Options()
    silent: dict[str, str] = {}
    if options.levels:
        silent = dict.fromkeys(("sparsity", "schedule"), "levels are a schedule of their own")
    if options.remove_channels is None:
        silent |= dict.fromkeys(("channels_base", "channels_criterion", "round_to"), "no channels are to be removed")
    elif not options.levels and options.sparsity is None:
        names = ("pattern", "base", "criterion", "allocation", "permute", "rearrange", "schedule")
        silent |= dict.fromkeys(names, "channels are removed and no zeros asked for (sparsity or levels)")
    for name, reason in silent.items():
        if getattr(options, name) != getattr(plain, name):
            raise RecipeError(f"option '{name}' would do nothing: {reason}.")


def data_of(options: Options) -> Data:
    """The images that the options name. raises RecipeError."""
    value = {
        "name": options.data,
        "root": options.root,
        "classes_file": options.classes_file,
        "holdout": options.holdout,
        "workers": options.workers,
        "crop_pct": options.crop_pct,
        "train_limit": options.train_limit,
        "test_limit": options.test_limit,
    }
    # A recipe of nothing but images, so that a value out of range is told as in any recipe.
    return build_recipe(
        {"model": {"name": "any"}, "data": value, "stages": [{"stage": "evaluate"}]}, "the command"
    ).data


def _zeros(options: Options) -> dict[str, Any]:
    return {
        "pattern": options.pattern,
        "base": options.base,
        "criterion": options.criterion,
        "allocation": options.allocation,
        "permute": options.permute,
        "rearrange": options.rearrange,
        "exclude": options.exclude,
        "include_first": options.include_first,
        "include_depthwise": options.include_depthwise,
        "include_classifier": options.include_classifier,
    }


def _training(options: Options, epochs: int, learning_rate: float) -> dict[str, Any]:
    return {
        "epochs": epochs,
        "batch_size": options.batch_size,
        "optimizer": options.optimizer,
        "learning_rate": learning_rate,
        "weight_decay": options.weight_decay,
    }


def _has_pretrained(model: str) -> bool:
    return any(name == model and pretrained for name, _, pretrained in zoo.model_sources(model))
