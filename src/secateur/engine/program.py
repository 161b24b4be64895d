"""A program: the steps of one inference, over symbolic memory.

A step is one kernel on a range of independent units, which threads share (`runner_walk`); the next step begins when all
of them are done. Kernels have one signature:

    void kernel(ptr args, i64 begin, i64 end, ptr scratch)

args      slots of 8 bytes in the order of `Kernel.fields`: an address, an i64, or a double's bits (read as float32)
begin     first unit of a call, `end` one behind its last; one thread may get several calls
scratch   `Step.scratch` bytes of this thread's own, 64-byte aligned, contents undefined
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from secateur.engine.emit.builder import KernelModule


class Kernel(Protocol):
    """A kernel template with all its parameters chosen: a frozen dataclass.

    name     the symbol; names every parameter, so that equal names mean equal code for the same target
    fields   names of the argument slots, in order
    """

    @property
    def name(self) -> str: ...
    @property
    def fields(self) -> tuple[str, ...]: ...
    def emit(self, module: "KernelModule") -> None:
        """Write the function `name` into a module."""
        ...


@dataclass(frozen=True)
class Buffer:
    """Memory that the planner places in the arena, or that a caller provides.

    size       elements
    group      buffers of one group may share memory when they are not alive at the same time
    align      elements; inside the memory of its group a buffer begins at a multiple of it. Tensors in planes of one
               group have their plane stride here, so that the zeros between planes coincide whoever uses the memory
    zeroed     the bytes of the group's memory are set to `fill` once, when the arena is made; nobody ever writes
               anything else between planes
    fill       what stands for 0 (quads of 8-bit integers with a zero point; 0 for everything else)
    external   "" for arena memory, else the name of the program's input or output whose array this is
    item       bytes per element
    """

    name: str
    size: int
    group: str = ""
    align: int = 16
    zeroed: bool = False
    external: str = ""
    item: int = 4
    fill: int = 0


@dataclass(frozen=True)
class Address:
    """A place in a buffer: `offset` elements from its start."""

    buffer: Buffer
    offset: int = 0


Argument = int | float | Address | np.ndarray


@dataclass(frozen=True)
class Step:
    """One kernel call.

    layer      name of the graph node that this step is part of
    arguments  value of every field of the kernel. An ndarray is a constant: the program keeps one copy of it, 64-byte
               aligned, and passes its address
    units      number of independent units of work
    reads      buffers that are read, `writes` those that are written: what decides how long memory is alive
    costs      relative cost of each unit, for balance; equal where not given
    scratch    bytes per thread
    """

    layer: str
    kernel: Kernel
    arguments: Mapping[str, Argument]
    units: int
    reads: tuple[Buffer, ...] = ()
    writes: tuple[Buffer, ...] = ()
    costs: np.ndarray | None = None
    scratch: int = 0


@dataclass(frozen=True)
class Port:
    """An input or output of a program: its array is C-contiguous."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: Buffer


@dataclass(frozen=True)
class Program:
    """Steps in order, with what goes in and out."""

    steps: tuple[Step, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    notes: Mapping[str, str] = field(default_factory=dict[str, str])
