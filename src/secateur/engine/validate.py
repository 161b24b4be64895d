"""Proof that a program touches only its own memory, as far as its steps say what they touch.

Kernels check nothing while they run, so a program is checked before its first run (ENGINE.md 4.2). A failure is a
defect of a lowering, never of a model.
"""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np

from secateur.engine.program import Address, Argument, Buffer, Port, Program, Step
from secateur.errors import EngineError

_UNITS = 1 << 40
_SCRATCH = 1 << 31


def validate(program: Program) -> None:
    """Check a whole program. raises EngineError naming step and argument."""
    if not program.steps:
        raise EngineError("A program without steps computes nothing.")
    ports = {port.buffer: port for port in (*program.inputs, *program.outputs)}
    _check_ports(program)
    _check_buffers(program, ports)
    _check_kernels(program)
    written = {port.buffer for port in program.inputs}
    ever_written = {buffer for step in program.steps for buffer in step.writes}
    for index, step in enumerate(program.steps):
        where = f"step {index} ({step.layer}, {step.kernel.name})"
        _check_step(step, where)
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
    zeroed: dict[str, bool] = {}
    for step in program.steps:
        for buffer in (*step.reads, *step.writes):
            if names.setdefault(buffer.name, buffer) != buffer:
                raise EngineError(f"Two different buffers are named '{buffer.name}'.")
            if buffer.size < 0 or buffer.align < 1 or buffer.item not in (1, 2, 4, 8):
                raise EngineError(f"{buffer} has an impossible size.")
            if buffer.external:
                if buffer not in ports:
                    raise EngineError(f"'{buffer.name}' is external, but no input or output of the program.")
            elif zeroed.setdefault(buffer.group, buffer.zeroed) != buffer.zeroed:
                raise EngineError(f"Group '{buffer.group}' has zeroed and other buffers; it must be one of the two.")


def _check_kernels(program: Program) -> None:
    kernels: dict[str, Any] = {}
    for step in program.steps:
        if kernels.setdefault(step.kernel.name, step.kernel) != step.kernel:
            raise EngineError(f"Two different kernels are named '{step.kernel.name}'; the name must tell them apart.")


def _check_step(step: Step, where: str) -> None:
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
