"""Which units stay so that no value of an ONNX file is left without channels.

A part of a group may be all that a split or a slice hands on; a tensor of no channel is nothing that nodes compute
with. The first channel of such a part stays, with one of each other segment of its group.
"""

from collections.abc import Mapping

import numpy as np

from secateur.channels.groups import ChannelGroups, IntArray
from secateur.channels.onnx_boxes import Boxes, Flags
from secateur.channels.onnx_table import OnnxTrace


def with_remains(trace: OnnxTrace, groups: ChannelGroups, removed: Mapping[str, IntArray]) -> dict[str, IntArray]:
    """The units that go after all.

    groups     of the trace
    removed    name of a group -> its units that were to go
    """
    left = {name: np.sort(units) for name, units in removed.items() if len(units)}
    atoms = unit_atoms(trace, groups)
    classes = trace.ids.classes()
    while True:
        boxes = Boxes(trace, gone(classes, [atoms[name][units] for name, units in left.items()]))
        kept = _first_of_an_empty_value(trace, boxes)
        if kept is None:
            return left
        name, unit = next(
            (name, unit)
            for name, units in left.items()
            for unit in units
            if classes[atoms[name][unit]] == classes[kept]
        )
        segment = groups[name].segment
        stays = [unit] + [
            left[name][segment[left[name]] == other][0] for other in np.unique(segment[segment != segment[unit]])
        ]
        left[name] = np.setdiff1d(left[name], stays)


def unit_atoms(trace: OnnxTrace, groups: ChannelGroups) -> dict[str, IntArray]:
    """Name of a group -> (size,) an atom of each unit."""
    axes = trace.ids.axes()
    firsts = {group.name: group.members[0] for group in groups.groups}
    return {name: axes[first.tensor, first.axis].atoms[first.positions[:, 0]] for name, first in firsts.items()}


def gone(classes: IntArray, atoms: list[IntArray]) -> Flags:
    """(atoms,) which atoms belong to the channels of some of them."""
    roots = np.zeros(len(classes), bool)
    for some in atoms:
        roots[classes[some]] = True
    return roots[classes]


def _first_of_an_empty_value(trace: OnnxTrace, boxes: Boxes) -> int | None:
    for name, ids in trace.values.items():
        axes = boxes.axes(name)
        if axes is not None and any(not flags.any() for flags in axes):
            found = ids[(ids >= 0) & ~boxes.flags(ids)]
            return int(found[0]) if found.size else None
    return None
