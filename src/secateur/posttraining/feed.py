"""What units read and give on the calibration images: values cached as they become known, dropped when nobody needs
them any more.

Of a traced network every step runs once for every batch, whatever the number of units. The rest is caught by hooks,
with one run of the network for each unit.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Literal

import torch
from torch import Tensor, nn

from secateur.posttraining.units import Unit, Units

Place = Literal["device", "host"]


class Feed:
    """Inputs and outputs of the units of one network, asked for in order.

    The network must not change before what is being asked for; parts that come later may.
    """

    def __init__(
        self, network: nn.Module, units: Units, batches: Sequence[Tensor], wanted: Iterable[str], place: Place
    ) -> None:
        """Nothing is computed yet.

        batches    preprocessed images
        wanted     values (`Unit.source`, `Unit.result`) that will be asked for
        place      where values wait: on the network's device, or in the memory of the host
        """
        self.network, self.units, self.batches = network, units, batches
        self.device = next(network.parameters()).device
        self.place = self.device if place == "device" else torch.device("cpu")
        self._wanted = set(wanted)
        self._position = 0
        self._values: list[dict[str, Any]] = []
        self._readers: dict[str, int] = {}
        if units.trace is not None:
            self._values = [{units.trace.source: images} for images in batches]
            self._readers = {name: index for index, step in enumerate(units.trace.steps) for name in step.reads}

    @torch.no_grad()
    def sources(self, unit: Unit) -> list[Tensor]:
        """What the unit reads, batch by batch."""
        return self._of(unit.source) if unit.steps else self._caught(unit)[0]

    @torch.no_grad()
    def results(self, unit: Unit) -> list[Tensor]:
        """What the unit gives, batch by batch."""
        return self._of(unit.result) if unit.steps else self._caught(unit)[1]

    def release(self, name: str) -> None:
        """The value will not be asked for again."""
        self._wanted.discard(name)
        for values in self._values:
            self._drop(values)

    def _of(self, name: str) -> list[Tensor]:
        trace = self.units.trace
        assert trace is not None
        names = [step.name for step in trace.steps]
        end = names.index(name) + 1 if name != trace.source else 0
        if end > self._position:
            start, self._position = self._position, end
            for values in self._values:
                moved = {key: self._to(value, self.device) for key, value in values.items()}
                for index in range(start, end):
                    trace.run(self.network, names[index : index + 1], moved)
                    self._drop(moved, index)
                values.clear()
                values.update({key: self._to(value, self.place) for key, value in moved.items()})
        return [values[name] for values in self._values]

    def _drop(self, values: dict[str, Any], index: int | None = None) -> None:
        done = self._position - 1 if index is None else index
        for name in [name for name in values if name not in self._wanted and self._readers.get(name, -1) <= done]:
            del values[name]

    def _caught(self, unit: Unit) -> tuple[list[Tensor], list[Tensor]]:
        """By hooks: inputs and outputs of every call of the unit's layer, call by call."""
        sources: list[Tensor] = []
        results: list[Tensor] = []

        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            # Copies: what follows may work in place.
            sources.append(inputs[0].detach().clone().to(self.place))
            results.append(output.detach().clone().to(self.place))

        with ExitStack() as stack:
            handle = self.network.get_submodule(unit.layers[0]).register_forward_hook(hook)
            stack.callback(handle.remove)
            for images in self.batches:
                self.network(images.to(self.device))
        return sources, results

    @staticmethod
    def _to(value: Any, device: torch.device) -> Any:
        return value.to(device) if isinstance(value, Tensor) else value


def kept_batches(batches: Iterable[Tensor], units: Units, memory: int, networks: int = 2) -> tuple[list[Tensor], int]:
    """(as many batches as can be cached within `memory` bytes, at least one; how many there are).

    networks    how many of the size of this one are fed at the same time
    """
    kept: list[Tensor] = []
    used = count = 0
    for images in batches:
        count += 1
        used += len(images) * units.peak * networks + images.numel() * images.element_size()
        if not kept or used <= memory:
            kept.append(images)
    return kept, count
