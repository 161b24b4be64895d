"""The flags of compress_classifier.py that say how a schedule is trained.

Defaults are those of Distiller: 90 epochs of SGD at 0.1 with momentum 0.9 and weight decay 1e-4, 256 images a step.
"""

import shlex
from dataclasses import dataclass, field, replace
from typing import Any

from secateur.recipe.document import Document
from secateur.recipe.importers.distiller.networks import network_of
from secateur.recipe.importers.distiller.policies import MAX_EPOCHS
from secateur.recipe.importers.distiller.post_training import flag_stages
from secateur.recipe.importers.flags import Command, parse_command
from secateur.recipe.importers.reading import Fields, Reading

SHORT = {
    "a": "arch",
    "j": "workers",
    "b": "batch-size",
    "learning-rate": "lr",
    "weight-decay": "wd",
    "p": "print-freq",
    "e": "evaluate",
    "n": "name",
    "o": "out-dir",
    "gpu": "gpus",
    "resume": "resume-from",
    "validation-split": "vs",
    "verbose": "v",
    "val": "evaluate",
    "sense": "sensitivity",
}
SWITCHES = (
    *("pretrained", "evaluate", "deterministic", "cpu", "thinnify", "reset-optimizer", "load-serialized", "confusion"),
    *("param-hist", "masks-sparsity", "quantize-eval", "qe-per-channel", "qe-dynamic", "qe-save-fp-weights"),
    *(
        "qe-convert-pytorch",
        "qe-lapq",
        "qe-no-quant-inputs",
        "kd-pretrained",
        "amc-rllib",
        "greedy",
        "v",
        "enable-tensorboard",
    ),
)
SEVERAL = (
    "sensitivity-range",
    "sense-range",
    "qe-no-clip-layers",
    "qe-no-quant-layers",
    "act-stats",
    "amc-action-range",
)
# How a run is logged and where, which is ours to decide.
RUN_ONLY = (
    *("print-freq", "name", "out-dir", "gpus", "cpu", "deterministic", "v", "enable-tensorboard", "confusion"),
    *("param-hist", "masks-sparsity", "act-stats", "act-hist", "load-serialized", "reset-optimizer", "summary"),
    *("num-best-scores", "export-onnx", "extras"),
)


@dataclass(frozen=True)
class ClassifierFlags:
    """What the flags say.

    epochs       None: nothing says how many
    weights      pretrained, or a file
    compress     the schedule's file
    training     keys of every training but epochs and rate
    images       the folder given
    quantize     the stage that quantizes at the end, if there is to be one
    """

    arch: str | None = None
    images: str | None = None
    weights: str | None = None
    epochs: int | None = None
    learning_rate: float = 0.1
    workers: int = 4
    seed: int = 0
    compress: str | None = None
    evaluate: bool = False
    thin: bool = False
    training: dict[str, Any] = field(default_factory=lambda: _training(256, 0.9, 1e-4))
    distillation: dict[str, Any] | None = None
    quantize: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def _training(batch_size: int, momentum: float, weight_decay: float) -> dict[str, Any]:
    return {
        "batch_size": batch_size,
        "optimizer": "sgd",
        "momentum": momentum,
        "nesterov": False,
        "weight_decay": weight_decay,
        "label_smoothing": 0.0,
    }


def read_flags(reading: Reading, command: tuple[int, str]) -> ClassifierFlags:
    """The flags of a command line that stands in a schedule's comments; what it does not know is passed over.

    The files that it names are those of the machine where the schedule was run, so they are noted and not used.
    """
    line, text = command
    document = reading.document
    inner = reading.within(Document(document.source, text, {}, {(): line}, document.folder))
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    sorted_words = parse(inner, words)
    found = flags_of(sorted_words)
    for name in sorted_words.flags.value:
        if name not in sorted_words.flags.known:
            inner.note((), f"the flag '{name}' of the published command line is not known and not imported.")
    if found.weights not in (None, "pretrained") and reading.weights is None:
        inner.note((), f"the published run started from {found.weights}; give such weights with --weights.")
    images, known = found.images, network_of(found.arch or "").data
    if images and reading.data is None and known is None:
        inner.note((), f"the images are those of the published command line, {images}; give yours with --data.")
    weights = found.weights if found.weights == "pretrained" else None
    return replace(found, weights=weights)


def read_quantization(reading: Reading, command: tuple[int, str]) -> list[dict[str, Any]]:
    """The stage of a command line in a schedule's comments that quantizes what was trained."""
    line, text = command
    document = reading.document
    inner = reading.within(Document(document.source, text, {}, {(): line}, document.folder))
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    flags = parse(inner, words).flags
    return flag_stages(flags, flags.text("arch", "resnet18"))


def parse(reading: Reading, words: Any) -> Command:
    """The words of a command of compress_classifier.py, sorted."""
    return parse_command(words, reading, switches=SWITCHES, several=SEVERAL, short=SHORT)


def flags_of(command: Command) -> ClassifierFlags:
    """The flags as settings; what has no meaning here is noted. raises RecipeError for values that cannot be."""
    flags = command.flags
    weights = "pretrained" if flags.flag("pretrained") else None
    for name in ("resume-from", "exp-load-weights-from"):
        weights = flags.text(name, None) or weights
    flags.ignore(*RUN_ONLY)
    _note_later(flags)
    return ClassifierFlags(
        arch=flags.text("arch", "resnet18"),
        images=command.positional[0] if command.positional else None,
        weights=weights,
        epochs=flags.whole("epochs", 90, high=MAX_EPOCHS),
        learning_rate=flags.number("lr", 0.1, low=1e-12, high=1e6),
        workers=flags.whole("workers", 4),
        seed=flags.whole("seed", 0),
        compress=flags.text("compress", None),
        evaluate=flags.flag("evaluate"),
        thin=flags.flag("thinnify"),
        training=_training(
            flags.whole("batch-size", 256, low=1),
            flags.number("momentum", 0.9, low=0.0),
            flags.number("wd", 1e-4, low=0.0),
        ),
        distillation=_distillation(flags),
        quantize=flag_stages(flags, flags.text("arch", "resnet18")),
    )


def _distillation(flags: Fields) -> dict[str, Any] | None:
    teacher = flags.text("kd-teacher", None)
    temperature = flags.number("kd-temp", 1.0, low=1e-9)
    weight, task = flags.number("kd-distill-wt", 0.5, low=0.0), flags.number("kd-student-wt", 0.5, low=0.0)
    if flags.number("kd-teacher-wt", 0.0, low=0.0):
        flags.note(
            "kd-teacher-wt", "the teacher's own loss does not change the student; 'kd-teacher-wt' is not imported."
        )
    if flags.whole("kd-start-epoch", 0):
        flags.note("kd-start-epoch", "the student learns from its teacher from the first epoch on.")
    weights = "pretrained" if flags.flag("kd-pretrained") else flags.text("kd-resume", None)
    if teacher is None:
        return None
    model = {"name": network_of(teacher).model, "weights": weights, "options": network_of(teacher).options}
    return {"form": "kl", "temperature": temperature, "weight": weight, "task_weight": task, "teacher": model}


def _note_later(flags: Fields) -> None:
    """Flags of what is not imported, family by family."""
    for name in list(flags.value):
        if name.startswith("amc-"):
            flags.ignore(name, because="the search by reinforcement learning is not part of this version")
        elif name.startswith("greedy"):
            flags.ignore(name, because="greedy filter pruning is not part of this version")
        elif name.startswith(("sense", "sensitivity")):
            flags.ignore(name, because="sensitivity analysis is a verb of its own here, not a stage")
        elif name.startswith("earlyexit"):
            flags.ignore(name, because="early exits are not part of this version")
    for name, all_images in (("vs", 0.0), ("etes", 1.0), ("evs", 1.0), ("etrs", 1.0)):
        if flags.number(name, all_images, low=0.0, high=1.0) != all_images:
            flags.ignore(name, because="all training and test images are used; data.train_limit takes fewer")
