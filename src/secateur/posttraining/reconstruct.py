"""Reconstruction by gradient: unit after unit is fitted to what the dense network computes there.

    for unit in order of execution:   minimise |unit(x) - dense unit(x_dense)|^2      (`fit.py`)
    x:  sparse inputs, of the prefix that is pruned and fitted already, so that errors do not pile up;
        dense inputs, x = x_dense

The target is always the original dense network. Masks stay as they are (`static`), or are chosen again by magnitude
after every step (`every_step`), in each layer's own pattern and level.

Source: MSBench.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from secateur.cache import Cache, digest_of, key_of
from secateur.errors import PosttrainingError
from secateur.graph.table import text_table
from secateur.posttraining.arrays import array_of
from secateur.posttraining.descent import FitOptions, put_
from secateur.posttraining.feed import Feed, Place, kept_batches
from secateur.posttraining.fit import FittedUnit, fit_unit_, unit_tensors
from secateur.posttraining.rechoose import mask_choosers
from secateur.posttraining.trace import out_of_place
from secateur.posttraining.units import Unit, UnitKind, Units, find_units
from secateur.progress import Tracker, say, track
from secateur.sparsity import SparsityPlan, has_masks, stored_weight, unwrapped
from secateur.sparsity.draws import generator_for
from secateur.sparsity.layers import weighted_modules

Batches = Callable[[], Iterable[Tensor]]
VERSION = 1
DEFAULT_FIT = FitOptions()


@dataclass(frozen=True)
class ReconstructOptions:
    """How a network is reconstructed.

    unit      what is fitted together
    fit       steps, rates, early stop
    inputs    sparse: each unit sees what the pruned prefix gives;  dense: what the dense network gives
    mask      static, or every_step: chosen again by magnitude after every step
    cache     where inputs and targets wait: on the network's device, or in the memory of the host
    memory    bytes for them; where all images do not fit, fewer are used, which is said
    """

    unit: UnitKind = "block"
    fit: FitOptions = DEFAULT_FIT
    inputs: Literal["sparse", "dense"] = "sparse"
    mask: Literal["static", "every_step"] = "static"
    cache: Place = "host"
    memory: int = 4 << 30
    seed: int = 0


@dataclass(frozen=True)
class Reconstruction:
    """What became of every unit; prints as a table.

    images    how many were cached
    note      what could not be done as asked
    """

    units: tuple[FittedUnit, ...]
    images: int
    seconds: float
    note: str | None = None

    def __str__(self) -> str:
        def number(value: float | None) -> str:
            return "-" if value is None else f"{value:.4g}"

        rows = [
            (row.unit, number(row.before), number(row.after), str(row.steps), f"{row.seconds:.1f}", row.stop)
            for row in self.units
        ]
        lines = [text_table(("unit", "before", "after", "steps", "seconds", "ended by"), rows, left=1)]
        lines.append(f"{self.images} images, {self.seconds:.1f} s")
        return "\n".join(lines + ([self.note] if self.note else []))


def reconstruct_(
    model: nn.Module,
    dense: nn.Module,
    batches: Batches,
    options: ReconstructOptions | None = None,
    *,
    plans: Sequence[SparsityPlan] = (),
    seconds: float | None = None,
    folder: Path | str | None = None,
) -> Reconstruction:
    """Fit the kept weights of `model`, whose masks are attached, unit by unit to `dense`.

    batches    makes preprocessed images, no labels; one pass is made
    plans      pattern and level of every layer, for masks that are chosen at every step
    seconds    a time box: every unit gets its share of what is left; units that are not reached keep their weights
    folder     keeps every unit that is done, so that the same call goes on after a kill
    raises     PosttrainingError  another dense network, one with masks, no images, masks without a plan
    """
    started = time.monotonic()
    options = options or ReconstructOptions()
    network, teacher = unwrapped(model), checked_teacher(unwrapped(model), unwrapped(dense))
    with out_of_place(network, teacher):
        images = next(iter(batches()), None)
        if images is None or not len(images):
            raise PosttrainingError("reconstruction needs images, and there are none.")
        device = next(network.parameters()).device
        units = find_units(teacher, options.unit, images[:2].to(device))
        kept, there = kept_batches(batches(), units, options.memory)
        note = units.note
        if len(kept) < there:
            fewer = (
                f"Only {len(kept)} of {there} batches fit into {options.memory / 2**30:.1f} GiB; the rest is unused."
            )
            note = f"{note} {fewer}" if note else fewer
        if note:
            say(note)
        choose = mask_choosers(network, plans, options.seed) if options.mask == "every_step" else {}
        work = _Work(network, teacher, units, kept, options, choose)
        rows = _fit_all(work, _Kept(folder, work, seconds), started, seconds)
    return Reconstruction(rows, sum(map(len, kept)), time.monotonic() - started, note)


@dataclass(frozen=True)
class _Work:
    network: nn.Module
    teacher: nn.Module
    units: Units
    batches: list[Tensor]
    options: ReconstructOptions
    choose: dict[str, Callable[[], None]]

    def key(self, seconds: float | None) -> str:
        """Of everything that the result depends on."""
        options = {key: value for key, value in asdict(self.options).items() if key not in ("cache", "memory")}
        return key_of(
            {
                "what": "gradient reconstruction",
                "version": VERSION,
                "options": options,
                "seconds": seconds,
                "network": digests_of(self.network.state_dict().values()),
                "dense": digests_of(self.teacher.state_dict().values()),
                "images": digests_of(self.batches),
            }
        )


def _fit_all(work: _Work, kept: "_Kept", started: float, seconds: float | None) -> tuple[FittedUnit, ...]:
    units, options = work.units.units, work.options
    dense_inputs = options.inputs == "dense"
    sources, results = {unit.source for unit in units}, {unit.result for unit in units}
    teacher = Feed(
        work.teacher, work.units, work.batches, results | (sources if dense_inputs else set()), options.cache
    )
    student = teacher if dense_inputs else Feed(work.network, work.units, work.batches, sources, options.cache)
    rows: list[FittedUnit] = []
    before = 0.0  # spent by the processes that ended before the units were done
    most = max(options.fit.steps, 1)
    with track(len(units) * most, f"reconstruct {work.units.kind}") as tracker:
        for index, unit in enumerate(units):
            row = kept.load_(index, unit)
            if row is not None:
                before += row.seconds
                tracker.advance(most)
            else:
                left = None if seconds is None else seconds - before - (time.monotonic() - started)
                row = _fit(work, unit, student, teacher, None if left is None else left / (len(units) - index), tracker)
                if row.before is not None:
                    kept.save(index, unit, row)
                tracker.advance(most - row.steps)
            rows.append(row)
            later = units[index + 1 :]
            for feed in (student, teacher):
                for value in {unit.source, unit.result} - {value for u in later for value in (u.source, u.result)}:
                    feed.release(value)
    return tuple(rows)


def _fit(work: _Work, unit: Unit, student: Feed, teacher: Feed, seconds: float | None, tracker: Tracker) -> FittedUnit:
    """One unit, within `seconds`; the time until its inputs are there counts."""
    started = time.monotonic()
    if seconds is not None and seconds <= 0:
        return FittedUnit(unit.name, None, None, 0, 0.0, "time")
    sources, targets = student.sources(unit), teacher.results(unit)
    choosers = [work.choose[name] for name in unit.layers if name in work.choose]

    def rechoose() -> None:
        for choose in choosers:
            choose()

    return fit_unit_(
        work.units,
        unit,
        work.network,
        sources,
        targets,
        work.options.fit,
        generator_for(work.options.seed, "reconstruct", unit.name),
        rechoose=rechoose if choosers else None,
        seconds=None if seconds is None else max(seconds - (time.monotonic() - started), 1e-9),
        tracker=tracker,
    )


class _Kept:
    """Units that are done, on disk; nothing without a folder."""

    def __init__(self, folder: Path | str | None, work: _Work, seconds: float | None) -> None:
        self.network = work.network
        self.cache = None if folder is None else Cache(folder)
        self.key = "" if folder is None else work.key(seconds)

    def load_(self, index: int, unit: Unit) -> FittedUnit | None:
        """What an earlier process made of the unit, written into the network; None when there is nothing."""
        entry = None if self.cache is None else self.cache.get(self._key(index, unit))
        if entry is None:
            return None
        values = {name: torch.from_numpy(array.copy()) for name, array in entry.arrays.items()}
        put_(unit_tensors(self.network, unit), values)
        return FittedUnit(**entry.value)

    def save(self, index: int, unit: Unit, row: FittedUnit) -> None:
        if self.cache is not None:
            tensors = unit_tensors(self.network, unit)
            arrays = {name: array_of(tensor) for name, tensor in tensors.items()}
            self.cache.put(self._key(index, unit), asdict(row), arrays)

    def _key(self, index: int, unit: Unit) -> str:
        return key_of({"of": self.key, "index": index, "unit": asdict(unit)})


def checked_teacher(network: nn.Module, dense: nn.Module) -> nn.Module:
    """A copy of the dense network on the device of `network`, so that nothing done there can reach the teacher.

    raises    PosttrainingError  it has masks, or other layers than `network`
    """
    if has_masks(dense):
        raise PosttrainingError(
            "the dense network has masks; targets are those of the original network, so give a copy made before."
        )
    own, theirs = (
        {name: tuple(stored_weight(module).shape) for name, module in weighted_modules(found).items()}
        for found in (network, dense)
    )
    for name in sorted(own.keys() | theirs.keys()):
        if own.get(name) != theirs.get(name):
            raise PosttrainingError(
                f"{name}: the weight has shape {own.get(name)} in the network and {theirs.get(name)} in the dense one; "
                f"both must be the same network."
            )
    return deepcopy(dense).to(next(network.parameters()).device)


def digests_of(tensors: Iterable[Tensor]) -> list[str]:
    """SHA-256 of every tensor."""
    return [digest_of(array_of(tensor)) for tensor in tensors]
