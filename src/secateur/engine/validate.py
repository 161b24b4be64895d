"""Proof that a program touches only its own memory.

Kernels check nothing while they run, so a program is checked before its first run (ENGINE.md 4.2): what its steps say
that they read and write, and where their numbers and tables lead (engine.extents). Nothing is written outside a
buffer; reads may go past its ends where the zeros of the arena are. A failure is a defect of a lowering, never of a
model.
"""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np

from secateur.engine.extents import Common, Extent, Fault, extents
from secateur.engine.memory import GUARD, LINE
from secateur.engine.program import Address, Argument, Buffer, Port, Program, Step
from secateur.errors import EngineError

_UNITS = 1 << 40
_SCRATCH = 1 << 31


def validate(program: Program, lanes: int) -> None:
    """Check a whole program, for vectors of `lanes` floats. raises EngineError naming step and argument."""
    if not program.steps:
        raise EngineError("A program without steps computes nothing.")
    ports = {port.buffer: port for port in (*program.inputs, *program.outputs)}
    _check_ports(program)
    _check_buffers(program, ports)
    _check_kernels(program)
    written = {port.buffer for port in program.inputs}
    common = Common(program.steps)
    ever_written = {buffer for step in program.steps for buffer in step.writes}
    for index, step in enumerate(program.steps):
        where = f"step {index} ({step.layer}, {step.kernel.name})"
        check_step(step, where, lanes, common)
        for buffer in step.reads:
            constant_zero = buffer.zeroed and buffer not in ever_written
            # A kernel that reads and writes one buffer in place names it in both.
            if buffer not in written and not constant_zero:
                raise EngineError(f"In {where}, '{buffer.name}' is read before any step writes it.")
        written.update(step.writes)
    for port in program.outputs:
        if port.buffer not in written:
            raise EngineError(f"No step writes the output '{port.name}'.")
    for port in program.inputs:
        if port.buffer in ever_written:
            raise EngineError(f"A step writes the input '{port.name}', which belongs to the caller.")


def check_step(step: Step, where: str, lanes: int, common: Common) -> None:
    """Check one step by itself.

    where    its name in the sentence
    common   with the other steps of its program
    """
    _check_arguments(step, where)
    check_extents(step, where, lanes, common)


def _check_ports(program: Program) -> None:
    for ports in (program.inputs, program.outputs):
        names = [port.name for port in ports]
        if len(set(names)) < len(names):
            raise EngineError(f"Two inputs or two outputs have the same name: {', '.join(sorted(names))}.")
        for port in ports:
            size, dtype = prod(port.shape), np.dtype(port.dtype)
            if port.buffer.external != port.name or port.buffer.size != size or port.buffer.item != dtype.itemsize:
                raise EngineError(f"Port '{port.name}' {port.shape} {port.dtype} has an unfitting {port.buffer}.")


def _check_buffers(program: Program, ports: Mapping[Buffer, Port]) -> None:
    names: dict[str, Buffer] = {}
    zeroed: dict[str, tuple[bool, int]] = {}
    for step in program.steps:
        for buffer in (*step.reads, *step.writes):
            if names.setdefault(buffer.name, buffer) != buffer:
                raise EngineError(f"Two different buffers are named '{buffer.name}'.")
            if buffer.size < 0 or buffer.align < 1 or buffer.item not in (1, 2, 4, 8):
                raise EngineError(f"{buffer} has an impossible size.")
            if buffer.external:
                if buffer not in ports:
                    raise EngineError(f"'{buffer.name}' is external, but no input or output of the program.")
            elif zeroed.setdefault(buffer.group, (buffer.zeroed, buffer.fill)) != (buffer.zeroed, buffer.fill):
                raise EngineError(f"Group '{buffer.group}' has zeroed and other buffers; it must be one of the two.")


def _check_kernels(program: Program) -> None:
    kernels: dict[str, Any] = {}
    for step in program.steps:
        if kernels.setdefault(step.kernel.name, step.kernel) != step.kernel:
            raise EngineError(f"Two different kernels are named '{step.kernel.name}'; the name must tell them apart.")


def _check_arguments(step: Step, where: str) -> None:
    fields = step.kernel.fields
    if len(set(fields)) < len(fields) or set(fields) != set(step.arguments):
        raise EngineError(
            f"In {where}, the arguments {', '.join(sorted(step.arguments))} are not the kernel's fields "
            f"{', '.join(fields)}."
        )
    if not 1 <= step.units < _UNITS or not 0 <= step.scratch < _SCRATCH:
        raise EngineError(f"In {where}, {step.units} units with {step.scratch} bytes of scratch are impossible.")
    if step.costs is not None:
        costs = step.costs
        if costs.shape != (step.units,) or not np.isfinite(costs).all() or (costs < 0).any():
            raise EngineError(f"In {where}, costs must be {step.units} finite numbers, none negative.")
    for field, value in step.arguments.items():
        for fault in _faults(value, step):
            raise EngineError(f"In {where}, argument '{field}' {fault}.")


def check_extents(step: Step, where: str, lanes: int, common: Common) -> None:
    """Check that a step stays in its memory. Arguments as for `check_step`."""
    try:
        touched = extents(step, lanes, common)
    except Fault as fault:
        raise EngineError(f"In {where}, {fault}.") from fault
    for extent in touched:
        low, high, memory = _bounds(step, extent)
        if extent.low < low or extent.high > high:
            verb = "written" if extent.write else "read"
            raise EngineError(
                f"In {where}, bytes {extent.low} to {extent.high} of '{extent.field}' are {verb}; {memory} has bytes "
                f"{low} to {high} there."
            )


def _bounds(step: Step, extent: Extent) -> tuple[int, int, str]:
    """The bytes that may be touched, counted from the address, and what they belong to."""
    if extent.field == "scratch":
        return 0, step.scratch, "scratch memory"
    value = step.arguments[extent.field]
    if isinstance(value, np.ndarray):
        # Constants are never written; each begins on a line of its own, so its last vector may be read whole.
        return 0, 0 if extent.write else -(-value.nbytes // LINE) * LINE, "the constant"
    if not isinstance(value, Address):
        return 0, 0, "what is no address"
    buffer = value.buffer
    begin = -value.offset * buffer.item
    end = begin + buffer.size * buffer.item
    if not extent.write and not buffer.external:
        # As engine.memory places it: zeros in front of every group and behind the last.
        begin -= max(GUARD, buffer.align * buffer.item if buffer.zeroed else 0)
        end += GUARD
    return begin, end, f"'{buffer.name}'"


def _faults(value: Argument, step: Step) -> Iterator[str]:
    if isinstance(value, Address):
        if value.buffer not in step.reads and value.buffer not in step.writes:
            yield f"points into '{value.buffer.name}', which the step neither reads nor writes"
        if not 0 <= value.offset < max(value.buffer.size, 1):
            yield f"points at element {value.offset} of '{value.buffer.name}', which has {value.buffer.size}"
    elif isinstance(value, np.ndarray):
        if not value.flags.c_contiguous or value.dtype.kind not in "biuf":
            yield f"is an array of {value.dtype} that is not one block of numbers"
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        yield f"is {value}, which is no 64-bit integer"
