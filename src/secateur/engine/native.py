"""A program ready to run: kernels loaded, memory placed, threads waiting.

A run is one native call: it walks all steps on all threads and returns with the outputs written.
"""

import os
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter_ns

import numpy as np

from secateur.engine import runner_layout as layout
from secateur.engine.constants import Constants
from secateur.engine.forks import free_in_children
from secateur.engine.job import Job
from secateur.engine.kernel_code import load_kernels
from secateur.engine.memory import GUARD, plan_memory
from secateur.engine.object_cache import ObjectCache, default_cache
from secateur.engine.pages import Pages
from secateur.engine.pool import Pool, Runner, shared_pool
from secateur.engine.program import Port, Program
from secateur.engine.runner_ir import Runner as RunnerKernel
from secateur.engine.target import Target
from secateur.engine.validate import validate
from secateur.errors import EngineError

MAX_THREADS = 256


@dataclass(frozen=True)
class MemoryUse:
    """Bytes that a program holds.

    arena      tensors between steps, with guards
    constants  weights and tables
    scratch    working memory of all threads
    code       kernels; shared with other programs that use them too
    """

    arena: int
    constants: int
    scratch: int
    code: int


class NativeProgram:
    """`run` computes the outputs of a program; calls from several threads wait for each other.

    threads     how many walk the steps; results do not depend on it
    denormals   "keep", or "flush" to take them as zero, which some processors compute faster
    cache       where compiled kernels are kept; the user's cache when not given
    constants   where constants of the program lie already; those that do not are copied there
    raises      EngineError  for a program that is not sound, or a system without memory, threads or right to compile
    """

    def __init__(
        self,
        program: Program,
        target: Target,
        threads: int = 1,
        *,
        denormals: str = "keep",
        cache: ObjectCache | None = None,
        constants: Constants | None = None,
    ) -> None:
        if not 1 <= threads <= MAX_THREADS:
            raise EngineError(f"{threads} threads are impossible; 1 to {MAX_THREADS} are possible.")
        modes = layout.MODES[target.machine]
        if denormals not in modes:
            raise EngineError(f"denormals='{denormals}' is unknown; it can be {' or '.join(modes)}.")
        validate(program, target.lanes)
        self.target = target
        self.threads = threads
        cache = cache or default_cache()
        self._runner = _runner(target, cache)
        self._kernels = load_kernels({step.kernel.name: step.kernel for step in program.steps}.values(), target, cache)
        self._plan = plan_memory(program.steps)
        self._arena = Pages(self._plan.size)
        for region in self._plan.regions:
            if region.fill:
                self._arena.bytes[region.start - region.guard : region.start + region.size] = region.fill
        self._constants = constants or Constants()
        self.program = replace(program, steps=tuple(map(self._constants.moved, program.steps)))
        self._constants.seal()
        addresses = {name: kernel.address for name, kernel in self._kernels.items()}
        places = {buffer: self._arena.address + place for buffer, place in self._plan.places.items()}
        self._job = Job(self.program, addresses, places, threads, modes[denormals])
        self._input_names = {port.name for port in program.inputs}
        self._output_names = {port.name for port in program.outputs}
        self._pool = self._join() if threads > 1 else None
        self._lock = threading.Lock()
        _programs.add(self)

    # Running

    def run(
        self, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """The outputs by name, in new arrays, or in `outputs` where that has an array for one.

        raises    EngineError  when an array is missing or has another shape or type
        """
        with self._lock:
            return self._run(inputs, outputs or {})

    def profile(self, inputs: Mapping[str, np.ndarray], rounds: int = 20) -> list[float]:
        """Seconds of every step, waiting for the slowest thread included: the median of `rounds` runs."""
        readings: list[np.ndarray] = []
        with self._lock:
            ticks, started = self._runner.ticks(), perf_counter_ns()
            self._job.time_steps(True)
            try:
                for _ in range(rounds):
                    self._run(inputs, {})
                    readings.append(np.diff(self._job.clock))
            finally:
                self._job.time_steps(False)
            while perf_counter_ns() - started < _CALIBRATION_NS:
                pass
            seconds = (perf_counter_ns() - started) * 1e-9 / (self._runner.ticks() - ticks)
        return (np.median(readings, axis=0) * seconds).tolist()

    def _run(self, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if not (inputs.keys() <= self._input_names and outputs.keys() <= self._output_names):
            unknown = sorted((inputs.keys() - self._input_names) | (outputs.keys() - self._output_names))
            raise EngineError(f"The model has no input or output '{unknown[0]}'; {self._signature()}.")
        given = {port.name: self._input(port, inputs) for port in self.program.inputs}
        made = {port.name: self._output(port, outputs, given) for port in self.program.outputs}
        for ports, arrays in ((self.program.inputs, given), (self.program.outputs, made)):
            self._job.pass_arrays({port.buffer.name: arrays[port.name] for port in ports})
        if self._pool is None:
            self._runner.launch(None, self._job.address)
        else:
            if self._process != os.getpid():
                self._pool = self._join()
            self._pool.run(self._job.address)
        return made

    def _join(self) -> Pool:
        """This process's pool; no worker reads the memory of this program when that is given back."""
        pool, self._process = shared_pool(self._runner, self.threads), os.getpid()
        self._job.forget_runs()
        weakref.finalize(self, pool.retire, self._job.address)
        return pool

    def _input(self, port: Port, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        array = inputs.get(port.name)
        if array is None:
            raise EngineError(f"Input '{port.name}' is missing; {self._signature()}.")
        self._check(port, array)
        if array.flags.c_contiguous and array.flags.aligned:
            return array
        return np.require(array, requirements=("C", "A"))

    def _output(self, port: Port, outputs: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> np.ndarray:
        array = outputs.get(port.name)
        if array is None:
            return np.empty(port.shape, port.dtype)
        self._check(port, array)
        if not (array.flags.c_contiguous and array.flags.aligned and array.flags.writeable):
            raise EngineError(f"The array for output '{port.name}' must be writable and one block in C order.")
        others = (*given.values(), *(other for name, other in outputs.items() if name != port.name))
        if any(np.may_share_memory(array, other) for other in others):
            raise EngineError(f"The array for output '{port.name}' shares memory with another input or output.")
        return array

    def _check(self, port: Port, array: np.ndarray) -> None:
        if array.shape != port.shape or array.dtype != port.dtype:
            raise EngineError(
                f"'{port.name}' has shape {array.shape} and type {array.dtype}; "
                f"the model was compiled for {port.shape} and {port.dtype}."
            )

    def _signature(self) -> str:
        inputs, outputs = (
            ", ".join(f"'{port.name}' {port.shape} {port.dtype}" for port in ports)
            for ports in (self.program.inputs, self.program.outputs)
        )
        return f"inputs are {inputs}; outputs are {outputs}"

    # What it holds

    @property
    def memory(self) -> MemoryUse:
        """Bytes that this program holds."""
        return MemoryUse(
            self._plan.size,
            self._constants.size,
            self._job.scratch.bytes.size,
            sum(kernel.size for kernel in self._kernels.values()),
        )

    def poison(self) -> None:
        """Fill all memory that a run must write before it reads it with NaN, to show a step that does not."""
        with self._lock:
            self._job.scratch.bytes[:] = 0xFF
            for region in self._plan.regions:
                if not region.zeroed:
                    self._arena.bytes[region.start : region.start + region.size] = 0xFF

    def damaged_guards(self) -> list[str]:
        """Groups in front of which memory has changed: a step wrote where it must not ("" is behind the last)."""
        starts = [(region.group, region.start, region.fill) for region in self._plan.regions]
        guards = [
            (group, self._arena.bytes[start - GUARD : start] != fill)
            for group, start, fill in (*starts, ("", self._plan.size, 0))
        ]
        return [group for group, changed in guards if changed.any()]

    def forget_lock(self) -> None:
        """In a forked child nobody runs this program, whatever another thread of the parent did."""
        self._lock = threading.Lock()


_CALIBRATION_NS = 20_000_000
_runners: dict[Target, Runner] = {}
_runners_lock = free_in_children(threading.Lock())
_programs: "weakref.WeakSet[NativeProgram]" = weakref.WeakSet()


def _runner(target: Target, cache: ObjectCache) -> Runner:
    """The process's runner; it is never unloaded, since threads stay inside it."""
    with _runners_lock:
        if target not in _runners:
            own = RunnerKernel()
            _runners[target] = Runner(load_kernels([own], target, cache)[own.name].code)
        return _runners[target]


def _forget_locks() -> None:
    for program in list(_programs):
        program.forget_lock()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_locks)
