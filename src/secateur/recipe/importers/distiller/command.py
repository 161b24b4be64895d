"""Command lines of Distiller's compress_classifier.py: with --compress a schedule, else training or evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from secateur.errors import RecipeError
from secateur.recipe.document import parse_document, read_text
from secateur.recipe.importers.distiller.flags import ClassifierFlags, flags_of, parse
from secateur.recipe.importers.distiller.header import read_header
from secateur.recipe.importers.distiller.networks import network_of
from secateur.recipe.importers.distiller.policies import read_policies
from secateur.recipe.importers.distiller.schedule import draft
from secateur.recipe.importers.importing import Draft, command_lines
from secateur.recipe.importers.provenance import Provenance
from secateur.recipe.importers.reading import Reading
from secateur.recipe.importers.stages import FINISH


@command_lines.register("distiller")
class DistillerCommand:
    """The importer of its command lines."""

    @staticmethod
    def recognises(words: Sequence[str]) -> bool:
        return any(word.endswith("compress_classifier.py") for word in words)

    @staticmethod
    def read(words: Sequence[str], reading: Reading) -> Draft:
        command = parse(reading, words)
        flags = flags_of(command)
        command.flags.finish()
        command.check_words(reading, known=1)  # the folder of images
        made = _scheduled(reading, flags) if flags.compress else _plain(reading, flags)
        if flags.distillation:
            for stage in made.value["stages"]:
                if stage.get("training", {}).get("epochs"):
                    stage["distillation"] = flags.distillation
        return made


def _scheduled(reading: Reading, flags: ClassifierFlags) -> Draft:
    path = Path(flags.compress or "")
    try:
        document = parse_document(read_text(path), str(path), path.parent)
    except RecipeError as error:
        raise RecipeError(f"{reading.document.source}: --compress: {error}") from error
    inner = reading.within(document)
    if not isinstance(document.value.get("policies"), list):
        inner.fail((), "is no Distiller schedule: it has no 'policies'.")
    policies = read_policies(inner, document.value)
    return draft(inner, policies, flags, read_header(document.text))


def _plain(reading: Reading, flags: ClassifierFlags) -> Draft:
    """Without a schedule the network is trained, or evaluated only; --thinnify takes zero channels out."""
    network = network_of(flags.arch or "")
    stages: list[dict[str, Any]] = []
    if not flags.evaluate and not flags.thin:
        training = {"epochs": flags.epochs, "learning_rate": flags.learning_rate, "decay": "constant", **flags.training}
        stages.append({"stage": "train", "training": training})
    if flags.thin:
        stages.append({"stage": "thin", "shift": "zero"})
    if flags.quantize and flags.evaluate:
        stages.append({"stage": "evaluate"})
    stages += flags.quantize
    stages += [{"stage": "evaluate"}] if flags.evaluate and not (flags.thin or flags.quantize) else [*FINISH]
    name = reading.model or network.model
    options = network.options if name == network.model else {}
    images = f"imagefolder:{flags.images}" if flags.images else None
    value = {
        "version": 1,
        "model": {"name": name, "weights": reading.weights_for(name, flags.weights), "options": options},
        "data": {"name": reading.data or network.data or images, "workers": min(flags.workers, 64)},
        "seed": flags.seed,
        "stages": stages,
    }
    return Draft(value, Provenance("distiller", reading.document.source, reading.document.text))
