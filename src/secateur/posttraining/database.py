"""Every layer at every level, compressed once and kept: networks for any target are put together from it.

    options of a layer   dense, then for each pattern that fits: densities .9^k down to .01, or the level it stands for

A folder (filled by `build_database`) has `index.json` with what every option keeps and costs, and one safetensors file
per layer, named by the hash of weights, Gram matrix, patterns, levels and settings. An option is kept as a mask of
bits and its nonzeros: with the 44 default levels some 46 bytes for every weight of the dense layer.

Source: Frantar & Alistarh 2022 (OBC, section 6); the files are our own design.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from secateur.cache import Cache, digest_of, key_of
from secateur.errors import ArtifactError, PosttrainingError
from secateur.files import read_json
from secateur.posttraining.problem import Compressed
from secateur.registry import unknown
from secateur.sparsity import Layer, SensitivityRow, SensitivityTable

INDEX = "index.json"
FORMAT = 1
DENSE = "dense"


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
        if option_digest(packed, values, shift) != row.digest:
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


def option_digest(packed: NDArray[Any], values: NDArray[Any], shift: NDArray[Any]) -> str:
    """Of an option's mask, nonzeros and shift."""
    return key_of([digest_of(packed), digest_of(values), digest_of(shift)])


def _unpacked(packed: NDArray[Any], weights: int) -> Tensor:
    return torch.from_numpy(np.unpackbits(packed, count=weights, bitorder="little").view(bool))
