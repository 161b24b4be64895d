"""Command lines of 1xN: blocks of N filters, chosen at once, the rest trained for 180 epochs.

    BlockL1Conv      1xN, lowest L1 norms go          BlockRandomConv   1xN, drawn
    UnstructureConv  single weights                   StructureConv     whole filters
    DenseConv        plain training

Base selected: --pr_target of every layer pruned; first convolution, depthwise layers and, without --full, classifier
stay dense.

Source: the flags of the public code of Lin et al. 2022, "1xN Pattern for Pruning Convolutional Neural Networks".
"""

from collections.abc import Sequence
from typing import Any

from secateur.errors import RecipeError
from secateur.recipe.importers.flags import parse_command
from secateur.recipe.importers.importing import Draft, command_lines
from secateur.recipe.importers.provenance import Provenance
from secateur.recipe.importers.reading import Fields, Reading
from secateur.recipe.importers.stages import FINISH

# Filters that share a block here.
MOST_ROWS = 32

CONVOLUTIONS = {
    "BlockL1Conv": ("1x{n}", "magnitude"),
    "BlockRandomConv": ("1x{n}", "random"),
    "UnstructureConv": ("unstructured", "magnitude"),
    "StructureConv": ("filter", "l1"),
    "DenseConv": ("", ""),
}
SWITCHES = ("rearrange", "full", "nesterov", "use_dali", "test_only", "evaluate", "export_onnx", "debug", "resume")
SEVERAL = ("gpus", "lr_decay_step")
SHORT = {
    "pretrain_model": "pretrained_model",
    "lr_type": "lr_policy",
    "lr_decay_freq": "lr_adjust",
    "label_smoothing": "label-smoothing",
    "arc": "arch",
}
MEANINGLESS = (
    "first-layer-type",
    "bn_type",
    "init",
    "mode",
    "nonlinearity",
    "random_rule",
    "debug",
    "config",
    "data_set",
)
RUN_ONLY = (
    "job_dir",
    "use_dali",
    "gpus",
    "eval_batch_size",
    "export_onnx",
    "num_workers",
    "workers",
    "seed",
    "conv_type",
)
MARKS = ("--conv_type", "--pr_target", "--rearrange", "BlockL1Conv", "--pr_target=")


@command_lines.register("1xn")
class OneByNCommand:
    """The importer of 1xN's command lines."""

    @staticmethod
    def recognises(words: Sequence[str]) -> bool:
        if any(word.startswith(("--learner", "--ws_")) for word in words):
            return False
        return any(word.split("=")[0] in MARKS or word.endswith(("model_tune.py", "imagenet.py")) for word in words)

    @staticmethod
    def read(words: Sequence[str], reading: Reading) -> Draft:
        command = parse_command(words, reading, switches=SWITCHES, several=SEVERAL, short=SHORT)
        flags = command.flags
        if "model_tune" in command.script or "onnx_path" in flags:
            _refuse_tuning(flags)
        stages = _stages(flags)
        model = _model(reading, flags)
        images = flags.text("data_path", None)
        seed = flags.whole("seed", 0)
        flags.ignore(*RUN_ONLY)
        flags.ignore(*MEANINGLESS, because="it has no meaning here")
        flags.finish()
        command.check_words(reading)
        value = {
            "version": 1,
            "model": model,
            "data": {"name": reading.data or _images(model["name"], images)},
            "seed": seed,
            "stages": stages,
        }
        return Draft(value, Provenance("1xn", reading.document.source, reading.document.text))


def _stages(flags: Fields) -> list[dict[str, Any]]:
    only_test = flags.flag("test_only")
    if "evaluate" in flags:
        flags.note(
            "evaluate", "--evaluate stands in the README, but the program knows only --test_only; it is taken for that."
        )
        only_test = flags.flag("evaluate") or only_test
    training = _training(flags)
    sparsify = _sparsify(flags, training)
    if only_test:
        return [{"stage": "evaluate"}]
    stages = [{"stage": "evaluate"}, sparsify] if sparsify else [{"stage": "train", "training": training}]
    return [*stages, *FINISH]


def _sparsify(flags: Fields, training: dict[str, Any]) -> dict[str, Any] | None:
    kind = flags.text("conv_type", "BlockL1Conv", choices=tuple(CONVOLUTIONS))
    pattern, criterion = CONVOLUTIONS[kind]
    n = flags.whole("N", 16, low=1, high=MOST_ROWS)
    level = flags.number("pr_target", 0.5, low=0.0, high=1.0)
    rearrange, full = flags.flag("rearrange"), flags.flag("full")
    if "sparsity" in flags:
        flags.note(
            "sparsity",
            "--sparsity belongs to model_tune, where it is a whole number and 0.5 fails; --pr_target counts.",
        )
    if not pattern:
        return None
    if not level < 1:
        flags.fail("pr_target", f"'pr_target' is a fraction below 1, found {level:g}.")
    if "{n}" in pattern:
        pattern = pattern.format(n=n) if n > 1 else "kernel"
    elif rearrange:
        flags.note("rearrange", f"--rearrange means nothing to {kind} and is not imported.")
        rearrange = False
    if kind == "BlockRandomConv":
        flags.note(
            "conv_type", "1xN draws random blocks with replacement, so fewer go than asked; here the count is exact."
        )
    if kind == "UnstructureConv":
        flags.note(
            "conv_type", "1xN's baseline of single weights lets the optimiser change the mask; here the mask is fixed."
        )
    stage: dict[str, Any] = {
        "stage": "sparsify",
        "pattern": pattern,
        "sparsity": level,
        "base": "selected",
        "criterion": criterion,
        "include_classifier": full,
        "rounding": "floor",
        "ties": "exact",
        "schedule": {"kind": "one_shot"},
        "training": training,
    }
    return stage | ({"rearrange": True} if rearrange else {})


def _training(flags: Fields) -> dict[str, Any]:
    epochs = flags.whole("num_epochs", 180, high=10_000)
    flags.text("optimizer", "sgd", choices=("sgd", "adam", "rmsprop"))
    if flags.value.get("optimizer", "sgd") != "sgd":
        flags.note("optimizer", f"{flags.value['optimizer']} is not one of our optimizers; AdamW is taken.")
    warmup = flags.whole("warmup_length", 5)
    return {
        "epochs": epochs,
        "batch_size": flags.whole("train_batch_size", 256, low=1),
        "optimizer": "sgd" if flags.value.get("optimizer", "sgd") == "sgd" else "adamw",
        "learning_rate": flags.number("lr", 0.01, low=1e-12),
        "momentum": flags.number("momentum", 0.9, low=0.0),
        "nesterov": flags.flag("nesterov"),
        "weight_decay": flags.number("weight_decay", 4e-5, low=0.0),
        "label_smoothing": flags.number("label-smoothing", 0.0, low=0.0, high=0.999),
        "warmup_epochs": min(warmup, max(epochs - 1, 0)),
        **_decay(flags, epochs),
    }


def _decay(flags: Fields, epochs: int) -> dict[str, Any]:
    policy = flags.text("lr_policy", "cos", choices=("cos", "step", "exp", "fixed"))
    every, gamma = flags.whole("lr_adjust", 30, low=1), flags.number("lr_gamma", 0.1, low=1e-9, high=1.0)
    flags.ignore("lr_decay_step", because="--lr_adjust says when the rate falls")
    if policy == "cos":
        return {"decay": "cosine"}
    if policy == "exp":
        return {"decay": "exponential", "step_gamma": gamma}
    steps = list(range(every, epochs, every)) if policy == "step" else []
    return {"decay": "step", "step_epochs": steps, "step_gamma": gamma} if steps else {"decay": "constant"}


def _model(reading: Reading, flags: Fields) -> dict[str, Any]:
    arch = flags.text("arch", "mobilenet_v2")
    weights = flags.text("pretrained_model", None)
    for name in ("pruned_model", "resume"):
        if (other := flags.raw(name, None)) not in (None, True, False):
            weights = str(other)
    name = reading.model or _name(arch)
    return {"name": name, "weights": reading.weights_for(name, weights)}


def _name(arch: str) -> str:
    """resnet56_cifar of 1xN's lists is resnet56_cifar10 here; its ImageNet names are torchvision's."""
    arch = arch.lower()
    if arch.endswith("_cifar"):
        return f"{arch}10"
    return {"mobilenet_v1": "mobilenet_v1_100_imagenet"}.get(arch, arch)


def _images(model: str, folder: str | None) -> str | None:
    if model.endswith("_cifar10"):
        return "cifar10"
    return f"imagefolder:{folder}" if folder else None


def _refuse_tuning(flags: Fields) -> None:
    path = flags.text("onnx_path", "model.onnx")
    whole = ""
    if "sparsity" in flags:
        whole = " Its --sparsity is declared a whole number, so that 0.5 fails there."
    raise RecipeError(
        f"{flags.reading.document.source}: model_tune times a file that is pruned already; "
        f"`secateur bench {path}` does that, and finds the blocks by itself.{whole}"
    )
