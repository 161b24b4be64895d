"""Which values and weights of a float ONNX file get which integers: all that its quantized form is written from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from secateur.errors import QuantizationError
from secateur.files import read_json, write_json
from secateur.quantization.numbers import Numbers, Scale


@dataclass(frozen=True)
class ScaleTable:
    """Scales by the names of the float file.

    values     name of a value that is computed (or the input) -> its scale, one for the tensor
    weights    name of an initializer -> its scale, for the tensor or for each output channel
    floats     name of a node -> why it stays float
    """

    values: Mapping[str, Scale] = field(default_factory=lambda: dict[str, Scale]())
    weights: Mapping[str, Scale] = field(default_factory=lambda: dict[str, Scale]())
    floats: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())

    def to_dict(self) -> dict[str, Any]:
        return {
            "values": {name: _scale_to_dict(scale) for name, scale in self.values.items()},
            "weights": {name: _scale_to_dict(scale) for name, scale in self.weights.items()},
            "floats": dict(self.floats),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ScaleTable":
        """The table that `to_dict` wrote. raises QuantizationError."""
        try:
            return cls(
                {str(name): _scale_from_dict(scale) for name, scale in data["values"].items()},
                {str(name): _scale_from_dict(scale) for name, scale in data["weights"].items()},
                {str(name): str(reason) for name, reason in data["floats"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise QuantizationError(
                f"this is no table of scales: {type(error).__name__} at {error}; it needs values, weights and floats."
            ) from error

    def save(self, path: Path | str) -> None:
        """Write the table as JSON. raises DiskError."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: Path | str) -> "ScaleTable":
        """Read what `save` wrote. raises ArtifactError, QuantizationError."""
        return cls.from_dict(read_json(path))


def _scale_to_dict(scale: Scale) -> dict[str, Any]:
    # A float32 as a Python float has a text that gives the same float32 again.
    return {
        "step": scale.step.astype(np.float64).tolist(),
        "zero": scale.zero.tolist(),
        "axis": scale.axis,
        **asdict(scale.numbers),
    }


def _scale_from_dict(data: Mapping[str, Any]) -> Scale:
    numbers = Numbers(*(data[key] for key in ("bits", "signed", "symmetric", "restricted")))
    return Scale(np.asarray(data["step"], np.float32), np.asarray(data["zero"], np.int32), data["axis"], numbers)
