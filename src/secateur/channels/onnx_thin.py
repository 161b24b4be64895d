"""Channels of an ONNX file that are computed for nothing.

    needed      outputs of the network, and every channel that a nonzero weight of a needed channel reads
    absorbed    a channel that is one number everywhere, which the bias of its reader takes over: not needed by it

What is not needed goes: filters of zeros, what only they read, and filters that nobody reads. The function of the
network stays. Of every group one unit stays, and of segments as many as of every other. Source: our own design; what
Distiller calls thinning (ALGORITHMS.md B8, rule 4), with the constants that it leaves out.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from secateur.channels.groups import ChannelGroup, IntArray
from secateur.channels.onnx_boxes import Boxes, Flags
from secateur.channels.onnx_constants import KnownChannels
from secateur.channels.onnx_fold import absorbed, bias_name, folded, matrix_of, values_at
from secateur.channels.onnx_quantized import refuse_quantized
from secateur.channels.onnx_remains import gone, unit_atoms, with_remains
from secateur.channels.onnx_table import OnnxTrace
from secateur.channels.onnx_trace import trace_onnx
from secateur.channels.plan import ZEROS, RemovalPlan, make_plan


def thin_plan_onnx(source: Path | str | onnx.ModelProto, input_size: Sequence[int] | None = None) -> RemovalPlan:
    """The plan that removes every channel without which an ONNX file computes the same.

    Carried out by remove_channels_onnx, which also folds the constants that such channels leave behind.

    input_size    (channels, height, width) of the first input, where the file leaves sides open
    raises        ModelError
                  SparsityError  no layer has weights of floating point, because the file is quantized
    """
    trace = trace_onnx(source, input_size)
    if not trace.readers:
        # No layer is left to look at: "nothing is zero" would be said of weights that nobody has seen.
        refuse_quantized(trace.network, trace.ids.groups(), "channels")
    return plan_of_zeros(trace, KnownChannels(trace))


def plan_of_zeros(trace: OnnxTrace, known: KnownChannels) -> RemovalPlan:
    """The same for a file that was traced."""
    groups = trace.ids.groups()
    needed = needed_channels(trace, [absorbed(known, reader) for reader in trace.readers])
    constant = ~needed_channels(trace, [~np.isnan(values_at(known, reader)) for reader in trace.readers])
    units = unit_atoms(trace, groups)
    wanted = {group.name: _evenly(group, ~needed[units[group.name]]) for group in groups.free}
    removed = with_remains(trace, groups, wanted)
    reasons: dict[str, str] = {}
    for group in groups.free:
        dead = ~needed[units[group.name]]
        blocked = int((constant[units[group.name]] & ~dead).sum())
        if blocked:
            reasons[group.name] = f"{blocked} hold a constant that meets zero padding or finds no bias, and stay"
        elif len(removed.get(group.name, ())) < dead.sum():
            reasons[group.name] = "one must stay" if group.segments == 1 else "segments stay equal"
    criterion = "zeros"
    goes = gone(trace.ids.classes(), [units[name][which] for name, which in removed.items()])
    folds = folded(trace, Boxes(trace, goes), known)
    bias = {bias_name(reader): tuple(more.tolist()) for reader, more in folds}
    return make_plan(groups, removed, target=0.0, base=ZEROS, criterion=criterion, reasons=reasons, bias=bias)


def needed_channels(trace: OnnxTrace, free: Sequence[Flags]) -> Flags:
    """(atoms,) whether the network needs the channel of an atom.

    free    of each reader, (channels,) which of the channels that it reads it can do without
    """
    classes = trace.ids.classes()
    needed = trace.ids.frozen()
    weights = [(matrix_of(trace, reader) != 0).any(axis=3) for reader in trace.readers]
    reads = list(zip(trace.readers, weights, free, strict=True))
    while True:
        before = int(needed.sum())
        for reader, nonzero, spared in reversed(reads):
            rows = needed[np.maximum(reader.rows, 0)].reshape(reader.groups, -1)
            columns = (nonzero & rows[:, :, None]).any(axis=1).reshape(-1) & ~spared
            asked = reader.columns[columns & (reader.columns >= 0)]
            if not needed[asked].all():
                roots = np.zeros(len(needed), bool)
                roots[classes[asked]] = True
                needed |= roots[classes]
        if int(needed.sum()) == before:
            return needed


def _evenly(group: ChannelGroup, dead: Flags) -> IntArray:
    """The dead units that go: equally many of each segment, and not all of one."""
    parts = [np.flatnonzero(dead & (group.segment == segment)) for segment in range(group.segments)]
    count = min(len(part) for part in parts)
    count = min(count, group.size // group.segments - 1)
    # The first ones stay where not all can go.
    return np.sort(np.concatenate([part[len(part) - count :] for part in parts])).astype(np.int64)
