"""One pass over the Gram matrices: every layer at every level, compressed and stored.

A killed pass goes on where it was; a layer whose file is damaged is computed again. What the folder holds is written
down in `database`.

Source: Frantar & Alistarh 2022 (OBC, section 6).
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from secateur.cache import Cache, Entry, digest_of, key_of
from secateur.errors import PosttrainingError, SingularGramError
from secateur.files import write_json
from secateur.posttraining.arrays import array_of
from secateur.posttraining.database import DENSE, FORMAT, INDEX, Database, LayerOptions, Row, option_digest
from secateur.posttraining.gram import Gram
from secateur.posttraining.problem import Compressed, problem_of
from secateur.posttraining.second_order import Method, compress_layer
from secateur.posttraining.stored_grams import StoredGrams
from secateur.posttraining.subject import Subject
from secateur.progress import Tracker, track
from secateur.sparsity import Layer, Pattern, Rounding
from secateur.sparsity.compact import stored_bytes

LEVELS = tuple(1.0 - 0.9**k for k in range(1, 44))


def build_database(
    subject: Subject,
    grams: Mapping[str, Gram],
    patterns: Sequence[Pattern],
    folder: Path | str,
    levels: Sequence[float] = LEVELS,
    *,
    method: Method = "auto",
    importance: Mapping[str, Tensor] = MappingProxyType({}),
    rounding: Rounding = "floor",
    polish: bool = True,
    centered: bool = False,
    damping: float = 0.01,
) -> Database:
    """All layers of `subject` that have a Gram matrix, at all levels of all patterns; `subject` is not changed.

    patterns    a layer has options of all that fit it; of a pattern with one level (N:M) that one
    folder      one database; a second pass with the same arguments only checks what is there
    importance  layer -> (C_out,) what the error of every output counts where units compete; missing: they count alike
    raises      PosttrainingError  no pattern, levels outside 0..1;  DiskError
    """
    levels = sorted({float(level) for level in levels})
    if not patterns or not levels or not all(0.0 < level <= 1.0 for level in levels):
        raise PosttrainingError(f"a database needs patterns, and levels above 0 and up to 1, not {levels}.")
    settings = {"method": method, "rounding": rounding, "polish": polish, "centered": centered, "damping": damping}
    cache, found = Cache(folder), list[LayerOptions]()
    gathered = set(grams)  # asking a lazy mapping whether it has a name may read what lies there
    fitting = {layer.name: _fitting(layer, gathered, patterns) for layer in subject.layers}
    total = sum(len(_levels(rule, levels)) for rules, _ in fitting.values() for rule in rules)
    with track(total, "database") as progress:
        for layer in subject.layers:
            rules, reason = fitting[layer.name]
            weight = subject.weight(layer.name)
            if not rules:
                found.append(_dense_only(layer, weight, reason))
                continue
            bias, steps = subject.bias(layer.name), sum(len(_levels(rule, levels)) for rule in rules)
            facts = {"patterns": [repr(rule) for rule in rules], "levels": levels, "settings": settings}
            matters = importance.get(layer.name)
            if matters is not None:
                facts["importance"] = digest_of(array_of(matters))
            key = key_of(_facts(layer, weight, bias, grams) | facts)
            entry = cache.get(key)
            if entry is not None:
                progress.advance(steps)
            else:
                try:
                    gram = grams[layer.name]
                    rows = _compressed(
                        layer, weight, bias, gram, rules, levels, {"importance": matters, **settings}, progress
                    )
                    entry = cache.put(key, *rows)
                except SingularGramError as error:
                    found.append(_dense_only(layer, weight, str(error).rstrip(".")))
                    continue
            found.append(_from_entry(layer, key, entry))
    write_json(Path(folder) / INDEX, {"format": FORMAT, "layers": [asdict(own) for own in found]})
    return Database(folder, found)


def _fitting(layer: Layer, gathered: set[str], patterns: Sequence[Pattern]) -> tuple[list[Pattern], str]:
    """The patterns that a layer can have, or why there are none."""
    if layer.name not in gathered:
        return [], "no Gram matrix of its inputs was gathered"
    reasons = {rule: rule.applies(layer.filter_shape, layer.groups, layer.kind) for rule in patterns}
    rules = [rule for rule, reason in reasons.items() if reason is None]
    return rules, "" if rules else "; ".join(f"{rule}: {reason}" for rule, reason in reasons.items())


def _levels(rule: Pattern, levels: Sequence[float]) -> Sequence[float]:
    return levels if rule.fixed_level is None else (rule.fixed_level,)


def _facts(layer: Layer, weight: Tensor, bias: Tensor | None, grams: Mapping[str, Gram]) -> dict[str, Any]:
    """What the options depend on. Gram matrices on disk have a key, and need not be read."""
    if isinstance(grams, StoredGrams):
        gram = [grams.key(layer.name)]
    else:
        gram = [digest_of(array_of(grams[layer.name].matrix)), digest_of(array_of(grams[layer.name].mean))]
    return {
        "what": "layer database",
        "format": FORMAT,
        "layer": [layer.kind, layer.filter_shape, layer.groups],
        "weight": digest_of(array_of(weight)),
        "bias": "" if bias is None else digest_of(array_of(bias)),
        "gram": gram,
    }


def _compressed(
    layer: Layer,
    weight: Tensor,
    bias: Tensor | None,
    gram: Gram,
    rules: Sequence[Pattern],
    levels: Sequence[float],
    settings: dict[str, Any],
    progress: Tracker,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Value and arrays of a layer's file."""

    def options() -> Iterator[tuple[str, Compressed]]:
        yield DENSE, Compressed(weight, torch.ones_like(weight, dtype=torch.bool), 0.0, 0.0)
        for rule in rules:
            own = _levels(rule, levels)
            found = compress_layer(weight, gram, rule, own, progress=progress.advance, **settings)
            yield from zip(itertools.repeat(str(rule)), found, strict=False)

    rows: list[dict[str, Any]] = []
    arrays: dict[str, NDArray[Any]] = {"bias": np.empty(0, np.float32) if bias is None else array_of(bias)}
    for pattern, own in options():
        if not np.isfinite(own.error):
            continue
        index, mask = len(rows), own.mask.cpu().flatten()
        packed = np.packbits(mask.numpy(), bitorder="little")
        values = array_of(own.weight.float()).reshape(-1)[mask.numpy()]
        shift = np.empty(0, np.float32) if own.shift is None else array_of(own.shift.float())
        arrays |= {f"{index}.mask": packed, f"{index}.values": values, f"{index}.shift": shift}
        stored, zeros = min(stored_bytes(own.weight.float()).values()), int((own.weight == 0).sum())
        rows.append(asdict(Row(pattern, own.level, zeros, own.error, stored, option_digest(packed, values, shift))))
    energy = problem_of(weight, gram, centered=settings["centered"]).energy.sum().item()
    return {"energy": energy, "options": rows}, arrays


def _from_entry(layer: Layer, key: str, entry: Entry) -> LayerOptions:
    rows = tuple(Row(**row) for row in entry.value["options"])
    return LayerOptions(layer, rows, entry.value["energy"], key)


def _dense_only(layer: Layer, weight: Tensor, reason: str) -> LayerOptions:
    stored = min(stored_bytes(weight).values())
    return LayerOptions(layer, (Row(DENSE, 0.0, int((weight == 0).sum()), 0.0, stored, ""),), skipped=reason)
