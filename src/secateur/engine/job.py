"""A program as the words that the runner walks, with all memory that they point to."""

import struct
from collections.abc import Mapping

import numpy as np

from secateur.engine import runner_layout as layout
from secateur.engine.layout import next_multiple
from secateur.engine.memory import GUARD, LINE
from secateur.engine.pages import Pages
from secateur.engine.program import Address, Argument, Buffer, Program
from secateur.engine.ranges import split_parts

# Parts of a thread's units in a step, which other threads take over one by one.
PARTS = 8
_GUARD = next_multiple(GUARD, LINE)


class Job:
    """What one program gives to the runner.

    words      `runner_layout` tells what is where; `address` is where they begin
    scratch    working memory of all threads
    clock      readings of a run that is timed
    """

    def __init__(
        self, program: Program, kernels: Mapping[str, int], places: Mapping[Buffer, int], threads: int, mode: int
    ) -> None:
        """kernels: addresses by name; places: addresses of all buffers but those that callers provide."""
        count, parts = len(program.steps), PARTS if threads > 1 else 1
        # A guard in front of each thread's memory, and one behind.
        stride = 2 * _GUARD + next_multiple(max(step.scratch for step in program.steps), LINE)
        self.scratch = Pages(stride * threads)
        self.clock = np.zeros(count + 1, np.int64)
        self._slots, self._patches = _argument_slots(program, places)
        self._steps = self._step_records(program, kernels)
        self._bounds = np.stack([split_parts(step.units, step.costs, threads, parts) for step in program.steps])
        self._claimed, self._done = Pages(8 * threads * count), Pages(8 * count)
        self.words = np.zeros(layout.JOB_WORDS, np.int64)
        self.words[layout.STEPS] = self._steps.ctypes.data
        self.words[layout.COUNT] = count
        self.words[layout.BOUNDS] = self._bounds.ctypes.data
        self.words[layout.THREADS] = threads
        self.words[layout.PARTS] = parts
        self.words[layout.CLAIMED] = self._claimed.address
        self.words[layout.DONE] = self._done.address
        self.words[layout.SCRATCH] = self.scratch.address + _GUARD
        self.words[layout.SCRATCH_STRIDE] = stride
        self.words[layout.MODE] = mode
        self.address: int = self.words.ctypes.data

    def pass_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Where the next run finds the caller's arrays; `arrays` by buffer name."""
        for name, array in arrays.items():
            slots, offsets = self._patches[name]
            self._slots[slots] = array.ctypes.data + offsets

    def time_steps(self, wanted: bool) -> None:
        """Whether runs write `clock`."""
        self.words[layout.CLOCK] = self.clock.ctypes.data if wanted else 0

    def forget_runs(self) -> None:
        """As if it had never run: a forked child may have got it in the middle of a run."""
        self.words[layout.RUN] = 0
        self._claimed.bytes[:] = 0
        self._done.bytes[:] = 0

    @property
    def parts_done(self) -> tuple[np.ndarray, np.ndarray]:
        """(threads, steps) parts that were claimed, and (steps,) parts that were done, in all runs."""
        count, threads = len(self._steps), int(self.words[layout.THREADS])
        claimed, done = (pages.bytes.view(np.int64) for pages in (self._claimed, self._done))
        return claimed[: threads * count].reshape(threads, count), done[:count]

    def _step_records(self, program: Program, kernels: Mapping[str, int]) -> np.ndarray:
        """Address of kernel and of arguments, per step."""
        records = np.empty((len(program.steps), 2), np.int64)
        slot = 0
        for record, step in zip(records, program.steps, strict=True):
            record[:] = kernels[step.kernel.name], self._slots.ctypes.data + 8 * slot
            slot += len(step.kernel.fields)
        return records


def _argument_slots(
    program: Program, places: Mapping[Buffer, int]
) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Slots of all steps, and for each external buffer the slots to fill in at every run, with byte offsets."""
    values: list[int] = []
    patches: dict[str, list[tuple[int, int]]] = {port.buffer.name: [] for port in (*program.inputs, *program.outputs)}
    for step in program.steps:
        for field in step.kernel.fields:
            value = step.arguments[field]
            if isinstance(value, Address) and value.buffer.external:
                patches[value.buffer.name].append((len(values), value.offset * value.buffer.item))
                values.append(0)
            else:
                values.append(_slot(value, places))
    columns = {name: np.array(pairs, np.int64).reshape(-1, 2).T for name, pairs in patches.items()}
    return np.array(values or [0], np.int64), {name: (slots, offsets) for name, (slots, offsets) in columns.items()}


def _slot(value: Argument, places: Mapping[Buffer, int]) -> int:
    if isinstance(value, Address):
        return places[value.buffer] + value.offset * value.buffer.item
    if isinstance(value, np.ndarray):
        return int(value.ctypes.data)
    if isinstance(value, float):
        return struct.unpack("<q", struct.pack("<d", value))[0]
    return int(value)
