"""Compiles single kernels for tests and runs steps on plain arrays, one thread, no planner.

Every buffer gets its own memory between two guards full of NaN, so that a kernel that reads what it should not shows
it; after a run the guards must be as they were.
"""

import ctypes
import struct
from dataclasses import dataclass, field
from itertools import pairwise

import llvmlite.binding as llvm
import numpy as np

from secateur.engine.emit.builder import KernelModule
from secateur.engine.extents import Common, extents
from secateur.engine.layout import Planes
from secateur.engine.lowering.context import Context, Decision, Tensor
from secateur.engine.program import Address, Argument, Buffer, Kernel, Step
from secateur.engine.target import Target
from secateur.engine.validate import check_extents
from secateur.graph.ir import Graph

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()

_TRIPLE = llvm.get_process_triple()
TARGETS = {
    "avx512": Target("avx512", _TRIPLE, "skylake-avx512", "-prefer-256-bit", 16, 32),
    "vnni": Target("avx512", _TRIPLE, "cascadelake", "+avx512vnni,-prefer-256-bit", 16, 32),
    "avx2": Target("avx2", _TRIPLE, "haswell", "", 8, 16),
    "neon": Target("neon", "aarch64-unknown-linux-gnu", "neoverse-n1", "", 4, 32),
}
GUARD = 4096
_engines: list[llvm.ExecutionEngine] = []
_functions: dict[tuple[str, str], object] = {}


def runnable(isa: str) -> bool:
    """Whether this processor runs code for an instruction set."""
    features = llvm.get_host_cpu_features()
    needs = {"avx512": "avx512f", "vnni": "avx512vnni", "avx2": "avx2"}
    return features.get(needs.get(isa, ""), False)


ISAS = [isa for isa in ("avx512", "avx2") if runnable(isa)]
# Those that multiply 8-bit integers in different ways.
INTEGER_ISAS = [isa for isa in ("vnni", "avx512", "avx2") if runnable(isa)]


def assembly(kernel: Kernel, isa: str) -> str:
    """What LLVM makes of a kernel."""
    machine, module = _optimised(kernel, isa)
    return machine.emit_assembly(module)


def function(kernel: Kernel, isa: str) -> "ctypes._FuncPointer":
    """The compiled kernel."""
    key = (kernel.name, isa)
    if key not in _functions:
        machine, module = _optimised(kernel, isa)
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        _engines.append(engine)
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
        _functions[key] = prototype(engine.get_function_address(kernel.name))
    return _functions[key]


def _optimised(kernel: Kernel, isa: str) -> tuple[llvm.TargetMachine, llvm.ModuleRef]:
    target = TARGETS[isa]
    written = KernelModule(target)
    kernel.emit(written)
    module = llvm.parse_assembly(str(written))
    module.verify()
    found = llvm.Target.from_triple(target.triple)
    machine = found.create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="small"
    )
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    for used in module.functions:
        assert not used.is_declaration or used.name.startswith("llvm."), f"{kernel.name} calls {used.name}"
    return machine, module


@dataclass
class Memory:
    """Arrays for buffers, each between guards of NaN (93 in integers)."""

    wholes: dict[str, np.ndarray] = field(default_factory=dict)
    guards: dict[str, int] = field(default_factory=dict)

    def array(self, buffer: Buffer) -> np.ndarray:
        """The elements of a buffer: float32 for items of four bytes, int64 for eight, uint8 for one."""
        kind = {4: np.float32, 8: np.int64, 1: np.uint8}[buffer.item]
        if buffer.name not in self.wholes:
            guard = max(GUARD, -(-buffer.align // 64) * 64)
            whole = aligned(buffer.size + 2 * guard, kind, np.nan if kind is np.float32 else 93)
            if buffer.zeroed:
                # Zeros before the first plane are its padding, as between planes (engine.memory promises them).
                whole[guard - buffer.align : -guard].view(np.uint8)[:] = buffer.fill
            self.wholes[buffer.name], self.guards[buffer.name] = whole, guard
        guard = self.guards[buffer.name]
        return self.wholes[buffer.name][guard:-guard]

    def put(self, tensor: Tensor, values: np.ndarray) -> None:
        """Fill a tensor; nothing around its elements is touched."""
        _elements(self, tensor)[...] = values

    def get(self, tensor: Tensor) -> np.ndarray:
        """The elements of a tensor, after a look at what must be zero in its buffer."""
        buffer = tensor.buffer
        assert buffer is not None
        if isinstance(tensor.layout, Planes) and buffer.zeroed and buffer.size == tensor.layout.size:
            rest = self.array(buffer).copy()
            _strided(rest, tensor)[...] = 0
            around = rest.view(np.uint8) != buffer.fill
            _strided(around.view(np.uint32), tensor)[...] = 0
            assert not around.any(), f"{buffer.name}: elements outside the maps are not {buffer.fill}"
        return _elements(self, tensor).copy()

    def check_guards(self) -> None:
        """Nothing was written outside buffers."""
        for name, whole in self.wholes.items():
            guard = self.guards[name]
            guards = np.concatenate([whole[:guard], whole[-guard:]])
            untouched = np.isnan(guards) | _same_bytes(guards) if whole.dtype == np.float32 else guards == 93
            assert untouched.all(), f"around {name}"


def _same_bytes(elements: np.ndarray) -> np.ndarray:
    """Which elements are four equal bytes, as what stands for zero is."""
    parts = elements.view(np.uint8).reshape(-1, 4)
    return (parts == parts[:, :1]).all(1)


def _elements(memory: Memory, tensor: Tensor) -> np.ndarray:
    assert tensor.buffer is not None
    return _strided(memory.array(tensor.buffer), tensor)


def _strided(array: np.ndarray, tensor: Tensor) -> np.ndarray:
    layout, array = tensor.layout, array[tensor.offset :]
    if not isinstance(layout, Planes):
        return array[: layout.size].reshape(layout.shape)
    strides = (layout.image_stride, layout.plane_stride, layout.pitch, 1)
    return np.lib.stride_tricks.as_strided(array, layout.shape, [4 * stride for stride in strides])


def empty_context(isa: str, graph: Graph | None = None, pads: dict[tuple[int, int], int] | None = None) -> Context:
    """A context to lower single nodes in; convolutions cannot be chosen."""

    def choose(*arguments: object) -> Decision:
        raise AssertionError("no convolutions here")

    graph = graph or Graph((), (), (), {}, {}, 20)
    return Context(graph, TARGETS[isa], 2, pads or {}, choose)


def aligned(shape: int, dtype: type, fill: float) -> np.ndarray:
    """A filled array that begins at a multiple of 64 bytes."""
    item = np.dtype(dtype).itemsize
    raw = np.full(shape + 64 // item, fill, dtype)
    start = -raw.ctypes.data % 64 // item
    return raw[start : start + shape]


def run(steps: list[Step], memory: Memory, isa: str, split: int = 1) -> None:
    """Run steps in order; units in `split` ranges, as that many threads would get them.

    Each step must pass the proof of engine.validate, and write nowhere but where that says.
    """
    for step in steps:
        lanes = TARGETS[isa].lanes
        check_extents(step, step.kernel.name, lanes, Common([step]))
        written = {buffer.name: (memory.array(buffer), memory.array(buffer).copy()) for buffer in step.writes}
        kept: list[np.ndarray] = []
        slots = b""
        for name in step.kernel.fields:
            slots += _slot(step.arguments[name], memory, kept)
        args = np.frombuffer(bytearray(slots or b"\0" * 8), np.uint8)
        compiled = function(step.kernel, isa)
        scratch = aligned(step.scratch // 4 + 64, np.float32, np.nan)
        given = {name: memory.wholes[name].copy() for name in _only_read(step) if name in memory.wholes}
        edges = np.linspace(0, step.units, split + 1).astype(int)
        for begin, end in pairwise(edges):
            scratch[:] = np.nan
            compiled(args.ctypes.data, int(begin), int(end), scratch.ctypes.data)
            assert np.isnan(scratch[step.scratch // 4 :]).all(), f"{step.kernel.name} wrote behind its scratch"
        for name, before in given.items():
            np.testing.assert_array_equal(memory.wholes[name], before, f"{step.kernel.name} wrote to its input")
        for name, (after, before) in written.items():
            changed = np.flatnonzero(
                after.view(np.uint8).reshape(len(after), -1) != before.view(np.uint8).reshape(len(after), -1)
            )
            assert not len(changed) or _is_written(step, name, int(changed[0]), int(changed[-1]) + 1, lanes), name
    memory.check_guards()


def _is_written(step: Step, name: str, begin: int, end: int, lanes: int) -> bool:
    """Does engine.extents say that these bytes of a buffer are written."""
    spans = [
        (extent.low + base, extent.high + base)
        for extent in extents(step, lanes, Common([step]))
        for address in [step.arguments.get(extent.field)]
        if extent.write and isinstance(address, Address) and address.buffer.name == name
        for base in [address.offset * address.buffer.item]
    ]
    return min(low for low, _ in spans) <= begin and end <= max(high for _, high in spans)


def _only_read(step: Step) -> set[str]:
    return {buffer.name for buffer in step.reads} - {buffer.name for buffer in step.writes}


def _slot(argument: Argument, memory: Memory, kept: list[np.ndarray]) -> bytes:
    if isinstance(argument, Address):
        array = memory.array(argument.buffer)
        return struct.pack("<q", array.ctypes.data + argument.offset * array.itemsize)
    if isinstance(argument, np.ndarray):
        copy = aligned(argument.size, argument.dtype.type, 0)
        copy[:] = argument.reshape(-1)
        kept.append(copy)
        return struct.pack("<q", copy.ctypes.data)
    return struct.pack("<q", argument) if isinstance(argument, int) else struct.pack("<d", argument)
