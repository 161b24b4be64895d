"""What the result of every stage depends on, as hashes: a run goes on where all of it is as it was."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from secateur.pipeline.context import Context
from secateur.training.checkpoint import digest_of

# Keys of stages that name a file: what it holds counts, not only its name. `weights` are those of a teacher.
FILES = ("levels_file", "ratios_file", "sensitivity", "hardware", "weights")


def stage_keys(context: Context) -> list[str]:
    """The hash of every stage: the beginning, all stages up to it, and the files that they read."""
    recipe = context.recipe
    # Where and how fast images are loaded changes no number.
    data = recipe.data.model_dump(mode="json", exclude={"workers", "root"})
    beginning = {
        "network": digest_of(context.network),
        # Two networks can share all tensors and still compute different things (another padding, say).
        "model": {"name": recipe.model.name, "options": getattr(context.network, "zoo_options", recipe.model.options)},
        "preprocessing": context.preprocessing.to_dict(),
        "data": data,
        "images": [len(context.images.train or ()), len(context.images.test)],
        "classes": list(context.images.classes),
        "seed": recipe.seed,
    }
    key, keys = _hash(beginning), []
    for stage in recipe.stages:
        value = stage.model_dump(mode="json")
        key = _hash([key, value, *_contents(value)])
        keys.append(key)
    return keys


def _contents(value: Any) -> Iterator[str]:
    """The hashes of all files that a stage names, in its order."""
    if isinstance(value, list):
        for entry in value:
            yield from _contents(entry)
    elif isinstance(value, dict):
        for key, entry in value.items():
            if key in FILES and isinstance(entry, str) and Path(entry).is_file():
                with Path(entry).open("rb") as file:
                    yield hashlib.file_digest(file, "sha256").hexdigest()
            else:
                yield from _contents(entry)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
