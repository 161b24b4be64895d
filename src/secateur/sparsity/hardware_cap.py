"""Caps by hardware usefulness: no layer sparser than this machine can make use of.

    t(s) measured seconds of a layer, levels in steps        t(0) dense
    cap    the smallest level after which the time falls by less than 2 % per further step:
           t(s_j) > t(s_i) (1 - .02 (j - i)) for all j > i

A layer whose cap is 0 gains nothing worth a zero and stays dense. The horizon of all further steps keeps a plateau in
front of a fall, or a noisy step, from being taken for the end.

Source: the idea is MSBench's, whose tables per chip are not public; the method is our own design. The measurement is
`secateur.pipeline.layer_seconds`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.errors import ArtifactError
from secateur.files import read_json, write_json

FORMAT = 1
GAIN = 0.02


@dataclass(frozen=True)
class LayerSeconds:
    """Measured seconds of layers at levels of one pattern.

    where      processor, threads and batch, in words
    layers     layer -> level -> seconds; every layer with its dense time at level 0
    rest       seconds of everything else in the dense network
    """

    where: str
    pattern: str
    layers: Mapping[str, Mapping[float, float]]
    rest: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        layers = {name: {repr(level): t for level, t in times.items()} for name, times in self.layers.items()}
        return {"format": FORMAT, "where": self.where, "pattern": self.pattern, "layers": layers, "rest": self.rest}

    def write(self, path: Path | str) -> None:
        """raises DiskError"""
        write_json(path, self.to_dict())

    @classmethod
    def read(cls, path: Path | str) -> "LayerSeconds":
        """The table that `write` wrote. raises ArtifactError when the file is missing, damaged or something else."""
        value = read_json(path)
        try:
            if value["format"] != FORMAT:
                raise ValueError(f"format {value['format']}")
            layers = {
                str(name): dict(sorted((float(level), float(t)) for level, t in times.items()))
                for name, times in value["layers"].items()
            }
            for name, times in layers.items():
                numbers = [*times, *times.values()]
                if 0.0 not in times or not all(math.isfinite(n) and n >= 0 for n in numbers) or max(times) > 1:
                    raise ValueError(f"{name} needs a time at level 0, levels up to 1 and seconds of at least 0")
            rest = float(value.get("rest", 0.0))
            if not (math.isfinite(rest) and rest >= 0):
                raise ValueError("the rest needs seconds of at least 0")
            return cls(str(value["where"]), str(value["pattern"]), layers, rest)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{path}: this is not a table of layer times: {error}.") from error


@dataclass(frozen=True)
class HardwareCaps:
    """What is worth pruning here.

    caps     layer -> largest level that still makes it faster
    dense    layer -> the reason why zeros are wasted on it
    """

    caps: dict[str, float]
    dense: dict[str, str]


def hardware_cap(table: LayerSeconds, gain: float = GAIN) -> HardwareCaps:
    """The largest useful level of every layer of `table`.

    gain    the least that a further step must save, as a share of the layer's time
    """
    caps: dict[str, float] = {}
    dense: dict[str, str] = {}
    for name, times in table.layers.items():
        cap = _useful(dict(sorted(times.items())), gain)
        if cap > 0:
            caps[name] = cap
        else:
            dense[name] = f"no level makes it faster here ({table.where}, {table.pattern})"
    return HardwareCaps(caps, dense)


def _useful(times: Mapping[float, float], gain: float) -> float:
    levels, seconds = list(times), list(times.values())
    for start, level in enumerate(levels):
        if all(later > seconds[start] * (1 - gain * steps) for steps, later in enumerate(seconds[start + 1 :], 1)):
            return level
    return levels[-1]
