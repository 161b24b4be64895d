"""AdaPrune over the whole network: rounds of pruning a little and reconstructing everything together.

    for round r = 1 .. R:   masks at s_r = 1 - (1 - s)^(r/R)                    equal shares of what is still there
        minimise   sum over units of |unit - dense unit|^2 / |dense unit|^2     by Adam, all weights at once

Every unit's value is that of the sparse network running as a whole, so that one gradient weighs errors that travel. The
squares are relative to the dense network's, since sums of absolute ones would be those of the largest unit alone.

Source: Hubara et al. 2021 (layer by layer); Frantar & Alistarh 2022 (the whole network). The relative form and the
geometric rounds are our own design.
"""

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from secateur.cache import Cache, key_of
from secateur.errors import PosttrainingError
from secateur.posttraining.arrays import array_of
from secateur.posttraining.descent import FitOptions, descend_, put_
from secateur.posttraining.fit import channel_axis, distance
from secateur.posttraining.progressive import Planner, settle_, uniform
from secateur.posttraining.reconstruct import Batches, checked_teacher, digests_of
from secateur.posttraining.trace import out_of_place
from secateur.posttraining.units import Unit, UnitKind, Units, find_units
from secateur.progress import track
from secateur.sparsity import Sparsifier, stored_weight
from secateur.sparsity.draws import generator_for
from secateur.sparsity.layers import unwrapped, weighted_modules

VERSION = 1
FIT = FitOptions(steps=250, learning_rate=0.03)


@dataclass(frozen=True)
class AdaPruneOptions:
    """rounds: of pruning and reconstruction;  unit: whose values are compared;  fit: of every round."""

    rounds: int = 4
    unit: UnitKind = "layer"
    fit: FitOptions = FIT
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise PosttrainingError(f"rounds is a whole number from 1 on, not {self.rounds}.")


@dataclass(frozen=True)
class Round:
    """before, after: the sum of relative errors over all images; what made it worse is taken back."""

    sparsity: float
    before: float
    after: float
    steps: int
    seconds: float


def adaprune_(
    model: nn.Module,
    dense: nn.Module,
    batches: Batches,
    sparsity: float,
    options: AdaPruneOptions | None = None,
    *,
    plan: Planner = uniform,
    seconds: float | None = None,
    folder: Path | str | None = None,
) -> tuple[Round, ...]:
    """Prune `model` to `sparsity` in rounds.

    batches    makes preprocessed images, no labels; they are kept in memory
    plan       levels of all layers for the sparsity of one round
    seconds    a time box for all rounds; each gets its share of what is left, and masks are always chosen
    folder     keeps every round that is done, so that the same call goes on after a kill
    raises     PosttrainingError  a sparsity outside 0..1, and what `reconstruct_` raises
    """
    if not 0 <= sparsity < 1:
        raise PosttrainingError(f"a sparsity is a fraction from 0 to below 1, not {sparsity}.")
    started = time.monotonic()
    options = options or AdaPruneOptions()
    network, teacher = unwrapped(model), checked_teacher(unwrapped(model), unwrapped(dense))
    images = list(batches())
    if not images:
        raise PosttrainingError("AdaPrune needs images, and there are none.")
    cache = None if folder is None else Cache(folder)
    rounds: list[Round] = []
    earlier = 0.0  # spent by the processes that ended before the rounds were done
    with out_of_place(network, teacher):
        units = find_units(teacher, options.unit, images[0][:2].to(next(network.parameters()).device))
        work = _Work(network, teacher, units, images, options)
        start = work.key(sparsity, seconds) if cache else ""
        with track(options.rounds * max(options.fit.steps, 1), "adaprune") as tracker:
            for number in range(1, options.rounds + 1):
                level = 1 - (1 - sparsity) ** (number / options.rounds)
                settle_(network)
                Sparsifier(network, plan(network, level), seed=options.seed).update_(0)
                key = key_of({"of": start, "round": number, "level": level})
                done = None if cache is None else _loaded_(cache, key, network)
                if done is not None:
                    earlier += done.seconds
                else:
                    left = None if seconds is None else max(seconds - earlier - (time.monotonic() - started), 0.0)
                    done = _round_(work, number, level, None if left is None else left / (options.rounds - number + 1))
                    if cache is not None:
                        arrays = {name: array_of(value) for name, value in _tensors(network).items()}
                        cache.put(key, vars(done), arrays)
                tracker.advance(max(options.fit.steps, 1), round=float(number), error=done.after)
                rounds.append(done)
    return tuple(rounds)


@dataclass(frozen=True)
class _Work:
    network: nn.Module
    teacher: nn.Module
    units: Units
    images: list[Tensor]
    options: AdaPruneOptions

    def key(self, sparsity: float, seconds: float | None) -> str:
        return key_of(
            {
                "what": "adaprune",
                "version": VERSION,
                "options": asdict(self.options),
                "sparsity": sparsity,
                "seconds": seconds,
                "network": digests_of(self.network.state_dict().values()),
                "dense": digests_of(self.teacher.state_dict().values()),
                "images": digests_of(self.images),
            }
        )


def _round_(work: _Work, number: int, level: float, seconds: float | None) -> Round:
    """One reconstruction of everything, taken back where the sum of errors has not become smaller."""
    tensors = _tensors(work.network)
    device = next(work.network.parameters()).device
    done = descend_(
        tensors,
        lambda: _total(work),
        lambda batch: _errors(work, work.images[batch].to(device)),
        len(work.images),
        work.options.fit,
        generator_for(work.options.seed, "adaprune", number),
        seconds=seconds,
    )
    return Round(level, done.before, done.after, done.steps, done.seconds)


@torch.no_grad()
def _total(work: _Work) -> float:
    device = next(work.network.parameters()).device
    total = sum(float(_errors(work, images.to(device)).double()) * len(images) for images in work.images)
    return total / sum(map(len, work.images))


def _errors(work: _Work, images: Tensor) -> Tensor:
    """The sum over units of squared differences, relative to the squares of the dense network."""
    with torch.no_grad():
        wanted = _results(work.units, work.teacher, images)
    found = _results(work.units, work.network, images)
    terms: list[Tensor] = []
    for unit in work.units.units:
        for own, target in zip(found[unit.result], wanted[unit.result], strict=True):
            axis = channel_axis(work.network, unit, target)
            size = distance(torch.zeros_like(target), target, axis).clamp_min(torch.finfo(target.dtype).tiny)
            terms.append(distance(own, target, axis) / size)
    return torch.stack(terms).sum()


def _results(units: Units, network: nn.Module, images: Tensor) -> dict[str, list[Tensor]]:
    """What every unit gives in one run of the whole network, call by call."""
    found: dict[str, list[Tensor]] = {unit.result: [] for unit in units.units}

    def keep(unit: Unit) -> Any:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            found[unit.result].append(output)

        return hook

    with ExitStack() as stack:
        for unit in units.units:
            if not unit.steps:
                handle = network.get_submodule(unit.layers[0]).register_forward_hook(keep(unit))
                stack.callback(handle.remove)
        if units.trace is None:
            network(images)
            return found
        values: dict[str, Any] = {units.trace.source: images}
        units.trace.run(network, [step.name for step in units.trace.steps], values)
    for unit in units.units:
        if unit.steps:
            found[unit.result].append(values[unit.result])
    return found


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Stored weights and biases of all convolutions and linear layers, each once; masks follow from them."""
    found: dict[str, Tensor] = {}
    for name, module in weighted_modules(network).items():
        found[f"{name}.weight"] = stored_weight(module)
        if module.bias is not None:
            found[f"{name}.bias"] = cast(Tensor, module.bias)
    return {next(n for n, other in found.items() if other is tensor): tensor for tensor in found.values()}


def _loaded_(cache: Cache, key: str, network: nn.Module) -> Round | None:
    entry = cache.get(key)
    if entry is None:
        return None
    put_(_tensors(network), {name: torch.from_numpy(array.copy()) for name, array in entry.arrays.items()})
    return Round(**entry.value)
