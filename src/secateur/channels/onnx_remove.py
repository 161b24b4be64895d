"""Removing channels from ONNX files by a plan.

The plan may have been made on the file, or on the torch network that it was exported from: tensors are known by name.
Norms that the export folded into convolutions are missing in the file, and biases that it made are missing in the
plan; both follow the channels. Everything else must agree.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from secateur.channels.groups import IntArray
from secateur.channels.onnx_boxes import Flags
from secateur.channels.onnx_constants import KnownChannels
from secateur.channels.onnx_cut import cut_onnx
from secateur.channels.onnx_table import OnnxTrace
from secateur.channels.onnx_trace import trace_onnx
from secateur.channels.plan import Cut, RemovalPlan
from secateur.errors import ExportError, SparsityError
from secateur.files import atomic_path
from secateur.registry import unknown

# Protobuf refuses messages of 2 GiB and more.
MAX_FILE_BYTES = 2**31 - 1
_WEIGHTS = ("producer", "consumer", "depthwise")


def remove_channels_onnx(
    source: Path | str | onnx.ModelProto,
    target: Path | str,
    plan: RemovalPlan,
    *,
    input_size: Sequence[int] | None = None,
) -> Path:
    """Write an ONNX file without the channels that a plan removes, and return its path.

    The function is that of the network with these channels zero. Where the plan folds constants into biases, so is it
    done here, by the file's own weights.

    input_size    (channels, height, width) of the first input, where the file leaves sides open
    raises        ModelError, SparsityError  the plan belongs to another network
                  ExportError, DiskError     the file cannot be written
    """
    trace = trace_onnx(source, input_size)
    model = without_channels(trace, plan)
    path = Path(target)
    if model.ByteSize() >= MAX_FILE_BYTES:
        raise ExportError(f"{path}: {model.ByteSize():,} bytes do not fit into one ONNX file of at most 2 GiB.")
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return path


def without_channels(trace: OnnxTrace, plan: RemovalPlan) -> onnx.ModelProto:
    """The model in memory; the traced one is used up. raises SparsityError when the plan does not fit."""
    # Not the numbers of plan.bias: where norms were folded into convolutions, the file's weights have other sums.
    return cut_onnx(trace, planned(trace, plan), KnownChannels(trace) if plan.bias else None)


def planned(trace: OnnxTrace, plan: RemovalPlan) -> Flags:
    """(atoms,) whether the channel of an atom goes. raises SparsityError when the plan does not fit."""
    classes = trace.ids.classes()
    roots = np.zeros(len(classes), bool)
    found = [(cut, atoms) for cut in plan.cuts if (atoms := _atoms(trace, cut)) is not None]
    for cut, atoms in found:
        removed = atoms[cut.removed]
        if (removed < 0).any():
            raise SparsityError(f"{cut.tensor}: the plan removes channels that this network does not have.")
        roots[classes[removed]] = True
    gone, frozen = roots[classes], trace.ids.frozen()
    for cut, atoms in found:
        kept = np.array(cut.kept, np.int64)
        held = next((atom for atom in atoms[cut.removed].tolist() if frozen[atom]), None)
        if held is not None:
            raise SparsityError(
                f"{cut.tensor}: the plan removes channels that must stay in this file: {trace.ids.reason(held)}."
            )
        if gone[np.maximum(atoms[kept], 0)][atoms[kept] >= 0].any():
            raise SparsityError(
                f"{cut.tensor}: the plan keeps channels here that it removes elsewhere; it belongs to another network."
            )
    named = {(cut.tensor, cut.axis) for cut in plan.cuts}
    tensors = {cut.tensor for cut in plan.cuts}
    for (tensor, axis), known in trace.ids.axes().items():
        touched = known.role in _WEIGHTS and gone[np.maximum(known.atoms, 0)][known.atoms >= 0].any()
        turned = tensor in tensors and len(trace.network.stored[tensor]) == 2
        if touched and (tensor, axis) not in named and not turned:
            raise SparsityError(
                f"{tensor}: it has channels that the plan removes, and the plan says nothing of it; "
                "it belongs to another network."
            )
    return gone


def _atoms(trace: OnnxTrace, cut: Cut) -> IntArray | None:
    """The atoms of the axis that a cut means; None for a norm that the file has folded into its neighbours."""
    axes = trace.ids.axes()
    axis = cut.axis
    if cut.tensor not in trace.network.stored:
        if cut.role in _WEIGHTS:
            raise SparsityError(
                f"{unknown('tensor of this file', cut.tensor, {tensor for tensor, _ in axes})} A plan of a torch "
                "network fits the file that `secateur.export_onnx` makes of it; other exporters name and fold tensors "
                "otherwise."
            )
        return None
    known = axes.get((cut.tensor, axis))
    other = axes.get((cut.tensor, 1 - axis)) if axis < 2 and len(trace.network.stored[cut.tensor]) == 2 else None
    if other is not None and other.role == cut.role and (known is None or known.role != cut.role):
        known = other  # a matrix that is stored the other way round
    if known is None or len(known.atoms) != cut.length:
        shape = "x".join(map(str, trace.network.stored[cut.tensor]))
        raise SparsityError(
            f"{cut.tensor}: the plan was made for {cut.length} channels along axis {cut.axis}, the file has a tensor "
            f"of shape {shape}."
        )
    if cut.kept and cut.kept[-1] >= cut.length:
        raise SparsityError(f"{cut.tensor}: the plan keeps entry {cut.kept[-1]} of {cut.length}.")
    return known.atoms
