"""Mixed precision: how many bits each layer's weights get, so that the network loses least within a budget.

    min sum_l e[l, b_l]    subject to    sum_l b_l n_l <= average sum_l n_l         n_l: weights of layer l

e[l, b] is what the network loses when layer l alone has b bits: the divergence of its answers, a loss of the caller's,
or the noise share of the layer's own outputs. The integer program is that of levels after pruning with bits as options
(posttraining/dynamic.py). `for_accuracy` finds the smallest average at which the whole network holds its score;
`greedy_bits` lowers one layer after the other by the score itself.

Source: dynamic programming over sensitivities: Aflalo et al. 2020; greedy by accuracy: Distiller.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import onnx
from onnx import numpy_helper

from secateur.errors import QuantizationError
from secateur.graph.table import text_table
from secateur.posttraining.dynamic import Option, solvers
from secateur.progress import track
from secateur.quantization.answers import divergence, logits_of
from secateur.quantization.guard import without
from secateur.quantization.noise import CLEAN, measure_noise
from secateur.quantization.numbers import Scale, scale_of_tensor
from secateur.quantization.qdq import settled, write_qdq
from secateur.quantization.simulate import simulated
from secateur.quantization.subjects import Batches
from secateur.quantization.table import ScaleTable
from secateur.registry import unknown

FLOAT = 32
Measure = Literal["divergence", "loss", "noise"]
Score = Callable[[onnx.ModelProto], float]


@dataclass(frozen=True)
class Sensitivities:
    """What each layer's weights cost at each number of bits; prints as a table.

    errors     name of a weight -> one number for each of `bits`, at least 0
    weights    name of a weight -> how many numbers it has
    """

    bits: tuple[int, ...]
    errors: Mapping[str, tuple[float, ...]]
    weights: Mapping[str, int]
    measure: Measure

    def __str__(self) -> str:
        headers = ("weight", "numbers", *(_title(bits) for bits in self.bits))
        rows = [
            (name, f"{self.weights[name]:,}", *(f"{error:.3g}" for error in errors))
            for name, errors in self.errors.items()
        ]
        return text_table(headers, rows)


@dataclass(frozen=True)
class BitChoice:
    """Bits of each weight; prints as a table. error: the sum of the sensitivities; average: bits per number."""

    bits: Mapping[str, int]
    average: float
    error: float

    def __str__(self) -> str:
        table = text_table(("weight", "bits"), [(name, _title(bits)) for name, bits in self.bits.items()])
        return f"{table}\n{self.average:.3f} bits per weight on average"


def sensitivities(
    model: onnx.ModelProto,
    table: ScaleTable,
    batches: Batches,
    bits: Sequence[int],
    *,
    measure: Measure = "divergence",
    loss: Score | None = None,
) -> Sensitivities:
    """Each layer of the table at each number of bits, everything else float.

    model      prepared
    bits       options; 32 is float
    measure    divergence of the answers on the images (nats); loss: rise of the caller's `loss` of a float file;
               noise: share of the layer's own outputs that is lost
    raises     QuantizationError
    """
    options = _options(bits)
    if measure not in get_args(Measure):
        raise QuantizationError(unknown("sensitivity", measure, get_args(Measure)))
    if (measure == "loss") != (loss is not None):
        raise QuantizationError("the sensitivity 'loss' needs a function that gives the loss of a file, no other does.")
    wanted = logits_of(model, batches) if measure == "divergence" else None
    reference = loss(model) if loss is not None else 0.0
    errors: dict[str, tuple[float, ...]] = {}
    with track(len(table.weights), "sensitivities") as progress:
        for name in table.weights:
            found: list[float] = []
            for own in options:
                alone = ScaleTable({}, {} if own == FLOAT else {name: scale_with_bits(model, table, name, own)}, {})
                if own == FLOAT:
                    found.append(0.0)
                elif measure == "noise":
                    found.append(_lost(model, alone, batches))
                elif wanted is not None:
                    found.append(divergence(wanted, logits_of(simulated(model, alone), batches)))
                elif loss is not None:
                    found.append(max(loss(simulated(model, alone)) - reference, 0.0))
            errors[name] = tuple(found)
            progress.advance(layer=name)
    return Sensitivities(options, errors, _sizes(model, table), measure)


def choose_bits(facts: Sensitivities, average: float, *, solver: str = "dynamic") -> BitChoice:
    """The bits with the least sum of errors at no more than `average` bits per weight.

    solver    dynamic (optimal), greedy or lagrangian
    raises    PosttrainingError  a budget below the fewest bits of all layers;  RecipeError  an unknown solver
    """
    names = list(facts.errors)
    options = [
        [
            Option(error, float(bits * facts.weights[name]))
            for bits, error in zip(facts.bits, facts.errors[name], strict=True)
        ]
        for name in names
    ]
    total = sum(facts.weights.values())
    # The budget itself may be met: rounding of the average must not take it away.
    choice = solvers[solver](options, average * total * (1 + 1e-12))
    bits = {name: facts.bits[index] for name, index in zip(names, choice.indices, strict=True)}
    return BitChoice(bits, choice.cost / total, choice.error)


def for_accuracy(
    model: onnx.ModelProto,
    table: ScaleTable,
    facts: Sensitivities,
    score: Score,
    least: float,
    *,
    solver: str = "dynamic",
    precision: float = 0.05,
) -> tuple[BitChoice, float]:
    """The fewest bits on average at which the quantized file scores at least `least`, by halving; and its score.

    score        of a quantized file
    precision    of the average
    raises       QuantizationError  even the most bits of all layers are not enough
    """
    low, high = float(min(facts.bits)), float(max(facts.bits))

    def tried(average: float) -> tuple[BitChoice, float]:
        choice = choose_bits(facts, average, solver=solver)
        return choice, score(write_qdq(model, with_bits(model, table, choice.bits)))

    best = tried(high)
    if best[1] < least:
        raise QuantizationError(
            f"with {_title(int(high))} for every layer the score is {best[1]:.4f}, below {least:.4f}; allow more bits, "
            "or a lower score."
        )
    first = tried(low)
    if first[1] >= least:
        return first
    while high - low > precision:
        middle = (low + high) / 2
        found = tried(middle)
        if found[1] >= least:
            best, high = found, min(middle, found[0].average)
        else:
            low = middle
    return best


def greedy_bits(
    model: onnx.ModelProto, table: ScaleTable, bits: Sequence[int], score: Score, least: float
) -> tuple[BitChoice, float]:
    """From the most bits down: always the one step of one layer after which the file scores best, while it scores at
    least `least`; and the score at the end. Many evaluations: layers x steps.

    raises    QuantizationError  even the most bits are not enough
    """
    options = _options(bits)
    sizes = _sizes(model, table)
    chosen = dict.fromkeys(table.weights, max(options))

    def scored(choice: Mapping[str, int]) -> float:
        return score(write_qdq(model, with_bits(model, table, choice)))

    current = scored(chosen)
    if current < least:
        raise QuantizationError(
            f"with {_title(max(options))} for every layer the score is {current:.4f}, below {least}."
        )
    with track(None, "bits by accuracy") as progress:
        while True:
            best: tuple[float, int, str, int] | None = None
            for name, own in chosen.items():
                lower = [option for option in options if option < own]
                if not lower:
                    continue
                found = scored(chosen | {name: max(lower)})
                saved = (own - max(lower)) * sizes[name]
                if found >= least and (best is None or (found, saved) > best[:2]):
                    best = (found, saved, name, max(lower))
                progress.advance(score=found)
            if best is None:
                break
            current, chosen[best[2]] = best[0], best[3]
    average = sum(sizes[name] * own for name, own in chosen.items()) / sum(sizes.values())
    return BitChoice(chosen, average, 0.0), current


def with_bits(model: onnx.ModelProto, table: ScaleTable, bits: Mapping[str, int]) -> ScaleTable:
    """The table with these bits for these weights; 32 keeps their layers float. raises QuantizationError."""
    strange = sorted(bits.keys() - table.weights.keys())
    if strange:
        raise QuantizationError(unknown("weight of the table", strange[0], table.weights))
    floats = {name for name, own in bits.items() if own == FLOAT}
    weights = {
        name: scale_with_bits(model, table, name, bits[name]) if name in bits and name not in floats else scale
        for name, scale in table.weights.items()
    }
    changed = replace(table, weights=weights)
    if floats:
        nodes = [node.name for node in model.graph.node if len(node.input) > 1 and node.input[1] in floats]
        changed = without(model, changed, nodes)
        reasons = dict.fromkeys(nodes, "float weights lose least within the budget of bits")
        changed = replace(changed, floats={**changed.floats, **reasons})
    return settled(model, changed)


def scale_with_bits(model: onnx.ModelProto, table: ScaleTable, name: str, bits: int) -> Scale:
    """The scale of a weight with another number of bits, by its extremes."""
    scale = table.weights[name]
    if scale.numbers.bits == bits:
        return scale
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return scale_of_tensor(numpy_helper.to_array(tensor), replace(scale.numbers, bits=bits), scale.axis)


def _lost(model: onnx.ModelProto, alone: ScaleTable, batches: Batches) -> float:
    decibels = min(layer.own for layer in measure_noise(model, alone, batches).layers)
    return 0.0 if decibels >= CLEAN else 10 ** (-decibels / 10)


def _sizes(model: onnx.ModelProto, table: ScaleTable) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for tensor in model.graph.initializer:
        if tensor.name in table.weights:
            sizes[tensor.name] = numpy_helper.to_array(tensor).size
    return {name: sizes[name] for name in table.weights}


def _options(bits: Sequence[int]) -> tuple[int, ...]:
    options = tuple(sorted(set(bits)))
    if not options or any(not (2 <= own <= 16 or own == FLOAT) for own in options):
        raise QuantizationError(f"bits are 2 to 16, or 32 for float; got {', '.join(map(str, bits)) or 'none'}.")
    return options


def _title(bits: int) -> str:
    return "float" if bits == FLOAT else f"{bits} bits"
