"""What a quantizer may do beside choosing ranges: to the float network before it is observed, and to the weights after.

    before    equalise ranges of channels, absorb high biases
    after     bits of each layer, round column by column or by learning, correct biases
    at last   the collapse guard

Each is a verb of its own (equalize.py, absorb.py, column_rounding.py, learned_rounding.py, bias_correct.py, guard.py);
here they are put in order for `quantize_model`.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import onnx

from secateur.errors import QuantizationError
from secateur.quantization.absorb import Absorbed, absorb_biases
from secateur.quantization.answers import logits_of, top1_agreement
from secateur.quantization.bias_correct import BiasCorrected, correct_biases
from secateur.quantization.column_rounding import ColumnRounding, Inputs, round_columns
from secateur.quantization.equalize import Equalized, Relu6, equalize
from secateur.quantization.guard import Guarded
from secateur.quantization.learned_rounding import LearnedRounding, LearnOptions, learn_rounding
from secateur.quantization.mixed_precision import BitChoice, choose_bits, for_accuracy, sensitivities, with_bits
from secateur.quantization.prepare import prepared
from secateur.quantization.qdq import settled
from secateur.quantization.subjects import Batches
from secateur.quantization.table import ScaleTable
from secateur.quantization.weight_steps import fit_weight_steps
from secateur.registry import unknown

HowRounded = Literal["nearest", "columns", "learned"]


@dataclass(frozen=True)
class MixedBits:
    """Weights get bits layer by layer.

    bits        options; 32 is float
    average     bits per weight, at most; or
    agreement   how far top-1 agreement of the whole file may fall, a fraction: as few bits as hold it
    measure     of one layer's loss: divergence of the answers, or noise of its outputs
    raises      QuantizationError
    """

    bits: tuple[int, ...] = (4, 8)
    average: float | None = None
    agreement: float | None = None
    measure: Literal["divergence", "noise"] = "divergence"
    solver: str = "dynamic"

    def __post_init__(self) -> None:
        if (self.average is None) == (self.agreement is None):
            raise QuantizationError("mixed precision needs a budget: bits on average, or a fall of the agreement.")


@dataclass(frozen=True)
class Refinements:
    """What is done beside choosing ranges; by default nothing.

    equalize           None, or what becomes of ReLU6: keep, clip or replace
    absorb             high biases move behind their ReLU
    mixed              bits of weights by layer; None: those of the table
    weight_steps       of weights: by extremes as the table has them, or those with the least squared error
    rounding           of weights: nearest, columns (second order) or learned
    column_inputs      of the second-order rounding: those of the float network, or of the rounded one so far
    learn              how rounding is learned
    correct_biases     biases give quantized layers the means of the float network
    guard              how far top-1 agreement may fall before layers go back to float, a fraction; None: no guard
    raises             QuantizationError
    """

    equalize: Relu6 | None = None
    absorb: bool = False
    mixed: MixedBits | None = None
    weight_steps: Literal["extremes", "mse"] = "extremes"
    rounding: HowRounded = "nearest"
    column_inputs: Inputs = "float"
    learn: LearnOptions = field(default_factory=LearnOptions)
    correct_biases: bool = False
    guard: float | None = None

    def __post_init__(self) -> None:
        if self.equalize is not None and self.equalize not in get_args(Relu6):
            raise QuantizationError(unknown("treatment of ReLU6", self.equalize, get_args(Relu6)))
        if self.weight_steps not in ("extremes", "mse"):
            raise QuantizationError(unknown("choice of weight steps", self.weight_steps, ("extremes", "mse")))
        if self.rounding not in get_args(HowRounded):
            raise QuantizationError(unknown("rounding", self.rounding, get_args(HowRounded)))
        if self.guard is not None and not 0 <= self.guard <= 1:
            raise QuantizationError(f"the bound of the guard is a fraction from 0 to 1, not {self.guard}.")


@dataclass(frozen=True)
class Refined:
    """What was done; None for what was not. Prints one part after the other."""

    equalized: Equalized | None = None
    absorbed: Absorbed | None = None
    bits: BitChoice | None = None
    columns: ColumnRounding | None = None
    learned: LearnedRounding | None = None
    biases: BiasCorrected | None = None
    guarded: Guarded | None = None

    def __str__(self) -> str:
        parts = {
            "equalisation": self.equalized,
            "absorbed biases": self.absorbed,
            "mixed precision": self.bits,
            "rounding": self.columns or self.learned,
            "corrected biases": self.biases,
            "collapse guard": self.guarded,
        }
        return "\n\n".join(f"{title}\n{part}" for title, part in parts.items() if part is not None)


def refine_network(model: onnx.ModelProto, batches: Batches, options: Refinements) -> tuple[onnx.ModelProto, Refined]:
    """A prepared model before it is observed. raises QuantizationError."""
    done = Refined()
    if options.equalize is not None:
        found = equalize(model, relu6=options.equalize, batches=batches)
        model, done = prepared(found.model), replace(done, equalized=found)
    if options.absorb:
        absorbed = absorb_biases(model, batches)
        model, done = prepared(absorbed.model), replace(done, absorbed=absorbed)
    return model, done


def refine_weights(
    model: onnx.ModelProto, table: ScaleTable, batches: Batches, options: Refinements, done: Refined
) -> tuple[onnx.ModelProto, ScaleTable, Refined]:
    """A prepared model with weights and biases for the table, the table, what was done. raises QuantizationError."""
    source = model
    if options.mixed is not None:
        choice = _bits(model, table, batches, options.mixed)
        table, done = with_bits(model, table, choice.bits), replace(done, bits=choice)
    if options.weight_steps == "mse":
        table = fit_weight_steps(model, table)
    if options.rounding == "columns":
        columns = round_columns(source, table, batches, inputs=options.column_inputs)
        source, done = columns.model, replace(done, columns=columns)
    elif options.rounding == "learned":
        learned = learn_rounding(source, table, batches, options.learn)
        source, table, done = learned.model, learned.table, replace(done, learned=learned)
    if options.correct_biases:
        biases = correct_biases(source, table, batches, reference=model)
        source, done = biases.model, replace(done, biases=biases)
    return source, table if source is model else settled(source, table), done


def _bits(model: onnx.ModelProto, table: ScaleTable, batches: Batches, options: MixedBits) -> BitChoice:
    facts = sensitivities(model, table, batches, options.bits, measure=options.measure)
    if options.average is not None:
        return choose_bits(facts, options.average, solver=options.solver)
    wanted = logits_of(model, batches)

    def score(file: onnx.ModelProto) -> float:
        return top1_agreement(wanted, logits_of(file, batches))

    return for_accuracy(model, table, facts, score, 1.0 - (options.agreement or 0.0), solver=options.solver)[0]
