"""Unsound programs are refused before they run."""

from dataclasses import replace

import numpy as np
import pytest

from engine.small_programs import Axpy, RowSums, pipeline
from secateur.engine.program import Address, Buffer, Program
from secateur.engine.validate import validate
from secateur.errors import EngineError

GOOD = pipeline().program
X, FIRST = GOOD.inputs[0].buffer, GOOD.steps[0].writes[0]


def with_step(index: int, **changes) -> Program:
    steps = list(GOOD.steps)
    steps[index] = replace(steps[index], **changes)
    return replace(GOOD, steps=tuple(steps))


def with_argument(index: int, field: str, value) -> Program:
    return with_step(index, arguments={**GOOD.steps[index].arguments, field: value})


def without(index: int, field: str) -> Program:
    return with_step(index, arguments={k: v for k, v in GOOD.steps[index].arguments.items() if k != field})


def test_a_good_program_passes():
    validate(GOOD, 16)


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        (replace(GOOD, steps=()), "without steps"),
        (without(0, "factor"), "are not the kernel's fields"),
        (with_argument(0, "other", 1), "are not the kernel's fields"),
        (with_argument(0, "x", Address(X, X.size)), r"element 1920 of 'x', which has 1920"),
        (with_argument(0, "x", Address(X, -1)), "element -1 of 'x'"),
        (with_argument(0, "x", Address(Buffer("elsewhere", 9))), "'elsewhere', which the step neither reads"),
        (with_argument(0, "y", np.zeros((4, 4)).T), "not one block"),
        (with_argument(0, "y", np.array(["text"])), "not one block"),
        (with_argument(3, "width", 1 << 63), "no 64-bit integer"),
        (with_step(0, units=0), "0 units"),
        (with_step(0, units=-5), "-5 units"),
        (with_step(0, units=1 << 60), "are impossible"),
        (with_step(0, scratch=-1), "-1 bytes of scratch"),
        (with_step(3, costs=np.ones(3)), "costs must be 40"),
        (with_step(3, costs=np.full(40, np.nan)), "costs must be"),
        (with_step(3, costs=-np.ones(40)), "costs must be"),
        (replace(GOOD, steps=GOOD.steps[1:]), "'first' is read before any step writes it"),
        (replace(GOOD, steps=GOOD.steps[:3]), "No step writes the output 'y'"),
        (with_step(0, writes=(FIRST, X)), "writes the input 'x'"),
        (with_step(0, writes=(FIRST, Buffer("first", 8))), "Two different buffers are named 'first'"),
        (with_step(0, writes=(FIRST, Buffer("odd", 8, item=3))), "impossible size"),
        (with_step(0, writes=(FIRST, Buffer("odd", 8, external="odd"))), "no input or output"),
        (with_step(0, writes=(FIRST, Buffer("odd", 8, "plain", zeroed=True))), "Group 'plain'"),
        (with_step(0, kernel=RowSums(name="test_axpy")), "Two different kernels are named 'test_axpy'"),
        (replace(GOOD, inputs=(replace(GOOD.inputs[0], dtype="float64"),)), "unfitting"),
        (replace(GOOD, inputs=(replace(GOOD.inputs[0], shape=(40, 49)),)), "unfitting"),
        (replace(GOOD, inputs=GOOD.inputs * 2), "same name"),
    ],
)
def test_a_fault_is_named(program, fault):
    with pytest.raises(EngineError, match=fault):
        validate(program, 16)


def test_only_a_zeroed_buffer_that_nobody_writes_may_be_read_first():
    zeros = next(buffer for buffer in GOOD.steps[2].reads if buffer.zeroed)
    late = with_step(3, writes=(*GOOD.steps[3].writes, zeros))
    with pytest.raises(EngineError, match="'zeros' is read before"):
        validate(late, 16)


def test_axpy_fields_are_what_programs_fill():
    assert set(GOOD.steps[0].arguments) == set(Axpy().fields)
