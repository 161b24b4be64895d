"""Every layer at every level, compressed once and kept: networks for any target are put together from it.

    options of a layer   dense, then for each pattern that fits: densities .9^k down to .01, or the level it stands for

One pass over the Gram matrices fills a folder: `index.json` with what every option keeps and costs, and one
safetensors file per layer, named by the hash of weights, Gram matrix, patterns, levels and settings. A killed pass
goes on where it was; a layer whose file is damaged is computed again. An option is kept as a mask of bits and its
nonzeros: with the 44 default levels some 46 bytes for every weight of the dense layer.

Source: Frantar & Alistarh 2022 (OBC, section 6); the files are our own design.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from secateur.cache import Cache, Entry, digest_of, key_of
from secateur.errors import ArtifactError, PosttrainingError, SingularGramError
from secateur.files import read_json, write_json
from secateur.posttraining.gathering import StoredGrams
from secateur.posttraining.gram import Gram
from secateur.posttraining.problem import Compressed, problem_of
from secateur.posttraining.second_order import Method, compress_layer
from secateur.posttraining.subject import Subject
from secateur.progress import Tracker, track
from secateur.registry import unknown
from secateur.sparsity import Layer, Pattern, Rounding, SensitivityRow, SensitivityTable
from secateur.sparsity.compact import stored_bytes

INDEX = "index.json"
FORMAT = 1
DENSE = "dense"
LEVELS = tuple(1.0 - 0.9**k for k in range(1, 44))


@dataclass(frozen=True)
class Row:
    """One option of a layer.

    pattern    its spec, or `dense`
    level      the fraction of the pattern's groups that was asked to go
    zeros      zeros in the weight
    error      relative squared error of the layer's output
    bytes      float32, in the smallest storage format
    digest     of mask, nonzeros and shift, as they are stored
    """

    pattern: str
    level: float
    zeros: int
    error: float
    bytes: int
    digest: str


@dataclass(frozen=True)
class LayerOptions:
    """What a layer can become; the first option is the dense layer.

    energy     mean over positions of the squared output, summed over channels: what the errors are a share of
    key        of its file; "" without one
    skipped    why there is nothing but the dense option; "" otherwise
    """

    layer: Layer
    options: tuple[Row, ...]
    energy: float = 0.0
    key: str = ""
    skipped: str = ""


class _Numpy(Protocol):
    def get_tensor(self, name: str) -> NDArray[Any]: ...


class Database:
    """Options of all layers of one network. Figures are in memory, weights are read one option at a time.

    layers    every layer of the network by name, those that stay dense too
    """

    def __init__(self, folder: Path | str, layers: Sequence[LayerOptions]) -> None:
        self.folder = Path(folder)
        self.layers: Mapping[str, LayerOptions] = {own.layer.name: own for own in layers}

    @property
    def key(self) -> str:
        """Stands for everything in it."""
        return key_of([[name, own.key, own.layer.shape] for name, own in self.layers.items()])

    @property
    def skipped(self) -> dict[str, str]:
        """Layers that stay dense, with the reason."""
        return {name: own.skipped for name, own in self.layers.items() if own.skipped}

    def options(self, layer: str) -> tuple[Row, ...]:
        """raises PosttrainingError for a layer that is not there."""
        return self._layer(layer).options

    def load(self, layer: str, option: int) -> Compressed:
        """Weights and mask of one option; no other option is read.

        raises    PosttrainingError  no such layer or option
                  ArtifactError      its file is missing or damaged: build again, which repairs it
        """
        own = self._layer(layer)
        if not 0 <= option < len(own.options):
            raise PosttrainingError(f"{layer}: has the options 0 to {len(own.options) - 1}, not {option}.")
        row = own.options[option]
        with self._file(own) as file:
            packed, values = file.get_tensor(f"{option}.mask"), file.get_tensor(f"{option}.values")
            shift = file.get_tensor(f"{option}.shift")
        if _digest(packed, values, shift) != row.digest:
            raise ArtifactError(self._damaged(own, f"option {option} is not what was written"))
        mask = _unpacked(packed, own.layer.weights)
        weight = torch.zeros(own.layer.weights)
        weight[mask] = torch.from_numpy(values)
        shape = own.layer.filter_shape
        found = None if not len(shift) else torch.from_numpy(shift)
        return Compressed(weight.reshape(shape), mask.reshape(shape), row.error, row.level, found)

    def bias(self, layer: str) -> Tensor | None:
        """The bias of the dense layer, which shifts are added to. raises as `load`."""
        own = self._layer(layer)
        with self._file(own) as file:
            bias = file.get_tensor("bias")
        return torch.from_numpy(bias) if len(bias) else None

    def sensitivity(self, pattern: str, images: int = 0) -> SensitivityTable:
        """The error curves of one pattern, as the table that the sensitivity chart is drawn from.

        Its output error is that of each layer's own output, not of the network's; `images` is told in its title.
        """
        none = SensitivityRow(DENSE, 0.0, 0.0, None, None, None, 0.0)
        rows = tuple(
            SensitivityRow(name, row.level, row.zeros / own.layer.weights, None, None, None, row.error)
            for name, own in self.layers.items()
            for row in own.options
            if row.pattern == pattern
        )
        if not rows:
            known = sorted({row.pattern for own in self.layers.values() for row in own.options} - {DENSE})
            raise PosttrainingError(unknown("pattern of the database", pattern, known))
        return SensitivityTable("output_error", pattern, "second order", images, none, rows, self.skipped)

    @classmethod
    def open(cls, folder: Path | str) -> "Database":
        """The database in a folder. raises ArtifactError when its index is missing, damaged or something else."""
        path = Path(folder) / INDEX
        value = read_json(path)
        try:
            if value["format"] != FORMAT:
                raise ValueError(f"format {value['format']}")
            layers = [_options_of(entry) for entry in value["layers"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{path}: this is not the index of a database: {error}.") from error
        return cls(folder, layers)

    def _layer(self, name: str) -> LayerOptions:
        if name not in self.layers:
            raise PosttrainingError(unknown("layer of the database", name, self.layers))
        return self.layers[name]

    def _file(self, own: LayerOptions) -> "_Reading":
        if not own.key:
            raise PosttrainingError(f"{own.layer.name}: has no options besides the dense layer: {own.skipped}.")
        return _Reading(Cache(self.folder).path(own.key), own.layer.name)

    def _damaged(self, own: LayerOptions, reason: str) -> str:
        return _damaged(Cache(self.folder).path(own.key), own.layer.name, reason)


def build_database(
    subject: Subject,
    grams: Mapping[str, Gram],
    patterns: Sequence[Pattern],
    folder: Path | str,
    levels: Sequence[float] = LEVELS,
    *,
    method: Method = "auto",
    rounding: Rounding = "floor",
    polish: bool = True,
    centered: bool = False,
    damping: float = 0.01,
) -> Database:
    """All layers of `subject` that have a Gram matrix, at all levels of all patterns; `subject` is not changed.

    patterns    a layer has options of all that fit it; of a pattern with one level (N:M) that one
    folder      one database; a second pass with the same arguments only checks what is there
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
            key = key_of(_facts(layer, weight, bias, grams) | facts)
            entry = cache.get(key)
            if entry is not None:
                progress.advance(steps)
            else:
                try:
                    gram = grams[layer.name]
                    entry = cache.put(key, *_compressed(layer, weight, bias, gram, rules, levels, settings, progress))
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
        gram = [digest_of(_array(grams[layer.name].matrix)), digest_of(_array(grams[layer.name].mean))]
    return {
        "what": "layer database",
        "format": FORMAT,
        "layer": [layer.kind, layer.filter_shape, layer.groups],
        "weight": digest_of(_array(weight)),
        "bias": "" if bias is None else digest_of(_array(bias)),
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
    arrays: dict[str, NDArray[Any]] = {"bias": np.empty(0, np.float32) if bias is None else _array(bias)}
    for pattern, own in options():
        if not np.isfinite(own.error):
            continue
        index, mask = len(rows), own.mask.cpu().flatten()
        packed = np.packbits(mask.numpy(), bitorder="little")
        values = _array(own.weight.float()).reshape(-1)[mask.numpy()]
        shift = np.empty(0, np.float32) if own.shift is None else _array(own.shift.float())
        arrays |= {f"{index}.mask": packed, f"{index}.values": values, f"{index}.shift": shift}
        stored, zeros = min(stored_bytes(own.weight.float()).values()), int((own.weight == 0).sum())
        rows.append(asdict(Row(pattern, own.level, zeros, own.error, stored, _digest(packed, values, shift))))
    energy = problem_of(weight, gram, centered=settings["centered"]).energy.sum().item()
    return {"energy": energy, "options": rows}, arrays


def _from_entry(layer: Layer, key: str, entry: Entry) -> LayerOptions:
    rows = tuple(Row(**row) for row in entry.value["options"])
    return LayerOptions(layer, rows, entry.value["energy"], key)


def _dense_only(layer: Layer, weight: Tensor, reason: str) -> LayerOptions:
    stored = min(stored_bytes(weight).values())
    return LayerOptions(layer, (Row(DENSE, 0.0, int((weight == 0).sum()), 0.0, stored, ""),), skipped=reason)


def _options_of(entry: dict[str, Any]) -> LayerOptions:
    """A layer of the index. raises KeyError, TypeError, ValueError."""
    own = entry["layer"]
    sizes, shared = tuple(own["shape"]), tuple(own["shared"])
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(f"{own['name']} has the shape {list(sizes)}")
    layer = Layer(str(own["name"]), own["kind"], sizes, int(own["groups"]), shared)
    rows = tuple(Row(**row) for row in entry["options"])
    if not rows:
        raise ValueError(f"{layer.name} has no options")
    for row in rows:
        numbers = (row.level, row.error, float(row.zeros), float(row.bytes))
        if not all(np.isfinite(number) and number >= 0 for number in numbers) or row.zeros > layer.weights:
            raise ValueError(f"{layer.name} has an option with figures that cannot be")
    key, energy = str(entry["key"]), float(entry["energy"])
    if key and (len(key) != 64 or not set(key) <= set("0123456789abcdef")):
        raise ValueError(f"{layer.name} has the key {key!r}")
    return LayerOptions(layer, rows, energy, key, str(entry["skipped"]))


class _Reading:
    """A layer's file, whose faults become sentences."""

    def __init__(self, path: Path, layer: str) -> None:
        self.path, self.layer = path, layer

    def __enter__(self) -> _Numpy:
        try:
            self._file = safe_open(self.path, framework="numpy")
            return cast(_Numpy, self._file.__enter__())
        except (SafetensorError, OSError, ValueError) as error:
            raise ArtifactError(_damaged(self.path, self.layer, str(error).splitlines()[0])) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._file.__exit__(kind, error, trace)
        if isinstance(error, SafetensorError | OSError | ValueError):
            raise ArtifactError(_damaged(self.path, self.layer, str(error).splitlines()[0])) from error


def _damaged(path: Path, layer: str, reason: str) -> str:
    reason = reason.rstrip(".")
    return f"{path}: the options of {layer} cannot be read: {reason}. Build the database again; only they are redone."


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


def _digest(packed: NDArray[Any], values: NDArray[Any], shift: NDArray[Any]) -> str:
    return key_of([digest_of(packed), digest_of(values), digest_of(shift)])


def _unpacked(packed: NDArray[Any], weights: int) -> Tensor:
    return torch.from_numpy(np.unpackbits(packed, count=weights, bitorder="little").view(bool))
