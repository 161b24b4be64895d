"""All clipping values together, by the loss of the quantized network.

    1. For p = 2, 2.5, 3, 3.5, 4 every range by itself has the least mean |x - x'|^p. The p with the least loss of the
       whole network, between its neighbours by a parabola, is the start.
    2. Powell's method moves the ranges of all activations together, as factors of the start.

The loss is that of the answers: cross entropy with the labels, or without labels the distance of the logits from the
float network's,  mean (l - l_float)^2.

The network is written once with steps and zero points as inputs; a trial is a run with other numbers.

Source: Nahshan et al. 2021 (LAPQ), section 4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from scipy.optimize import minimize

from secateur.errors import QuantizationError
from secateur.progress import track
from secateur.quantization.calibrate import table_of, within
from secateur.quantization.numbers import Scale, scale_of_range
from secateur.quantization.points import Points
from secateur.quantization.qdq import settled, told_by, write_qdq
from secateur.quantization.runs import Runs, first_line
from secateur.quantization.seen import Seen
from secateur.quantization.settings import Chooser
from secateur.quantization.table import ScaleTable

Array = NDArray[Any]
POWERS = (2.0, 2.5, 3.0, 3.5, 4.0)
# Ranges are moved between these factors of where they start.
LEAST_FACTOR, MOST_FACTOR = 0.3, 1.5


@dataclass(frozen=True)
class JointRanges:
    """The table that was found.

    power     of the start
    losses    of min-max ranges, of the start, of what was found
    trials    how often the network was run
    """

    table: ScaleTable
    power: float
    losses: tuple[float, float, float]
    trials: int


def joint_ranges(
    model: onnx.ModelProto,
    points: Points,
    seen: Sequence[Seen],
    settings: Chooser,
    images: Array,
    labels: NDArray[np.int64] | None = None,
    *,
    trials: int = 200,
) -> JointRanges:
    """Ranges of all activations of a prepared model, chosen together. The observers of the settings are not asked.

    images    that the loss is measured on; some hundred, all in memory at once
    labels    of the images; without, the float network's logits are what is wanted
    trials    runs of the network that may be spent
    raises    QuantizationError
    """
    if not len(images) or trials < len(POWERS) + 2:
        raise QuantizationError(f"a joint search needs images and at least {len(POWERS) + 2} trials.")
    wanted = Runs(model).logits(images).reshape(len(images), -1)
    with track(trials, "joint ranges") as progress:

        def table_by(observer: str, power: float | None) -> ScaleTable:
            def choose(node: str, kind: str) -> Any:
                options = None if power is None else {"power": power}
                return replace(settings(node, kind), observer=observer, options=options)

            return settled(model, table_of(model, points, seen, choose))

        plain = table_by("minmax", None)
        network = _Network(model, plain, images, wanted, labels, progress.advance)
        first = network.loss(plain.values)
        losses = [network.loss(table_by("mse", power).values) for power in POWERS]
        power = _between(POWERS, losses)
        start = table_by("mse", power)
        best, least = dict(start.values), network.loss(start.values)
        at_start = least

        def trial(factors: NDArray[np.float64]) -> float:
            nonlocal best, least
            if network.trials >= trials:
                raise StopIteration
            values = _scaled(start, points, factors)
            loss = network.loss(values)
            if loss < least:
                best, least = values, loss
            return loss

        try:
            bounds = [(LEAST_FACTOR, MOST_FACTOR)] * len(points.groups)
            options = {"maxfev": trials, "xtol": 1e-2, "ftol": 1e-4}
            minimize(trial, np.ones(len(points.groups)), method="Powell", bounds=bounds, options=options)
        except StopIteration:
            pass  # What was found within the trials stands.
    return JointRanges(replace(plain, values=best), power, (first, at_start, least), network.trials)


def _scaled(start: ScaleTable, points: Points, factors: NDArray[np.float64]) -> dict[str, Scale]:
    values: dict[str, Scale] = {}
    for group, factor in zip(points.groups, factors, strict=True):
        scale = start.values[group.values[0]]
        low, high = (float(end) * float(factor) for end in scale.range)
        moved = within(group, scale_of_range(max(low, group.low), min(high, group.high), scale.numbers))
        values.update(dict.fromkeys(group.values, moved))
    return values


def _between(powers: Sequence[float], losses: Sequence[float]) -> float:
    """The lowest point of the parabola through the least loss and its neighbours."""
    best = int(np.argmin(losses))
    if best in (0, len(powers) - 1):
        return powers[best]
    (a, b, _) = np.polyfit(powers[best - 1 : best + 2], losses[best - 1 : best + 2], 2)
    if not a > 0:
        return powers[best]
    return float(np.clip(-b / (2 * a), powers[best - 1], powers[best + 1]))


class _Network:
    """The simulated network with steps and zero points as inputs."""

    def __init__(
        self,
        model: onnx.ModelProto,
        table: ScaleTable,
        images: Array,
        wanted: Array,
        labels: NDArray[np.int64] | None,
        advance: Callable[[], None],
    ) -> None:
        # Weights are rounded before, so that biases, which go by the steps of inputs, stay floats: all but the same.
        rounded = onnx.ModelProto()
        rounded.CopyFrom(model)
        told = told_by(model, table)
        for tensor in rounded.graph.initializer:
            if tensor.name in told:
                tensor.CopyFrom(numpy_helper.from_array(told[tensor.name], tensor.name))
        # Values whose scales are equal would share their initializers: each gets a step of its own.
        apart = {
            name: replace(scale, step=np.asarray(index + 1, np.float32))
            for index, (name, scale) in enumerate(table.values.items())
        }
        written = write_qdq(rounded, ScaleTable(apart, {}, table.floats))
        self._fed = _as_inputs(written, table.values)
        self._session, self._input = _open(written), Runs(model).input
        self._images, self._wanted, self._labels, self._advance = images, wanted, labels, advance
        self.trials = 0

    def loss(self, values: Mapping[str, Scale]) -> float:
        self.trials += 1
        feed: dict[str, Array] = {self._input: np.ascontiguousarray(self._images, np.float32)}
        for name, operands in self._fed.items():
            scale = values[name]
            numbers = (scale.step, scale.zero.astype(scale.numbers.dtype), *scale.range)
            feed.update(zip(operands, (np.asarray(number) for number in numbers), strict=False))
        try:
            found = np.asarray(self._session.run(None, feed)[0], np.float64).reshape(len(self._images), -1)
        except Exception as error:  # its exceptions share no public base class
            raise QuantizationError(f"ONNX Runtime cannot run the model: {first_line(error)}.") from error
        self._advance()
        if self._labels is None:
            return float(np.square(found - self._wanted).mean())
        shifted = found - found.max(axis=1, keepdims=True)
        told = shifted[np.arange(len(found)), self._labels] - np.log(np.exp(shifted).sum(axis=1))
        return float(-told.mean())


def _as_inputs(model: onnx.ModelProto, values: Mapping[str, Scale]) -> dict[str, tuple[str, ...]]:
    """Turn steps and zero points (and the bounds of fewer bits) of values into inputs: their names."""
    nodes = {node.name: node for node in model.graph.node}
    fed: dict[str, tuple[str, ...]] = {}
    for name in values:
        rounds = nodes.get(f"{name}.quantized.QuantizeLinear")
        if rounds is not None:
            clips = nodes.get(f"{name}.clipped.Clip")
            fed[name] = (*rounds.input[1:3], *(clips.input[1:3] if clips is not None else ()))
    kept: list[onnx.TensorProto] = []
    asked = {operand for operands in fed.values() for operand in operands}
    for tensor in model.graph.initializer:
        if tensor.name in asked:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, []))
        else:
            kept.append(tensor)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return fed


def _open(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no public base class
        raise QuantizationError(f"ONNX Runtime cannot load the model: {first_line(error)}.") from error
