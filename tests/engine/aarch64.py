"""Runs kernels for AArch64 on any machine, under emulation.

    @needs_emulator
    def test_...():
        result = run_steps([step], {"x": x, "y": y})["y"]

The steps' kernels and the engine's runner are compiled for AArch64, linked with a small C program and run by
qemu-aarch64. Speed says nothing there; results do. On an AArch64 machine the same program runs directly.
Debian: apt-get install qemu-user gcc-aarch64-linux-gnu
"""

import platform
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from secateur.engine import runner_layout as layout
from secateur.engine.compiler import compile_kernels
from secateur.engine.program import Address, Argument, Buffer, Step
from secateur.engine.ranges import split_parts
from secateur.engine.runner_ir import Runner
from secateur.engine.target import Target, cross_target

NATIVE = platform.machine() == "aarch64"
COMPILER = shutil.which("gcc" if NATIVE else "aarch64-linux-gnu-gcc")
EMULATOR = "" if NATIVE else shutil.which("qemu-aarch64")
needs_emulator = pytest.mark.skipif(
    not COMPILER or EMULATOR is None,
    reason="AArch64 kernels run under qemu-aarch64 (qemu-user) and aarch64-linux-gnu-gcc, which are not installed",
)
NEON = cross_target("neon")
GUARD = 4096 + 64
# Parts of the units of each thread; few, so that kernels that are tested here also get ranges of several units.
PARTS = 3


def run_steps(
    steps: Sequence[Step],
    arrays: Mapping[str, np.ndarray],
    *,
    threads: int = 1,
    runs: int = 1,
    denormals: str = "keep",
    target: Target = NEON,
    cpu: str = "max",
) -> dict[str, np.ndarray]:
    """The contents of all buffers by name after running the steps, flat arrays.

    arrays    what buffers hold before, of any type and shape; others hold zeros when they are `zeroed`, else NaN
    runs      how often the steps run, to test threads
    cpu       the emulated processor, for example "neoverse-n1"
    raises    AssertionError  when a step wrote outside of its buffers by up to GUARD bytes
    """
    kernels = {step.kernel.name: step.kernel for step in steps}
    memory = _Memory(steps, arrays)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kernels.o").write_bytes(compile_kernels([*kernels.values(), Runner()], target))
        (folder / "kernels.h").write_text(_header(list(kernels)))
        (folder / "input").write_bytes(_input(steps, list(kernels), memory, threads, runs, denormals))
        driver = Path(__file__).with_name("aarch64_driver.c")
        _call(
            [COMPILER, "-std=c11", "-O1", "-Wall", "-Werror", "-static", "-pthread", f"-I{folder}",
             driver, folder / "kernels.o", "-o", folder / "program"]
        )  # fmt: skip
        run = [EMULATOR, "-cpu", cpu] if EMULATOR else []
        _call([*run, folder / "program", folder / "input", folder / "output"])
        return memory.contents((folder / "output").read_bytes())


def _call(command: Sequence[object]) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stderr}"


class _Memory:
    """Every buffer and constant as a block of bytes with a guard on both sides, of what stands for zero."""

    def __init__(self, steps: Sequence[Step], arrays: Mapping[str, np.ndarray]) -> None:
        self.blocks: list[bytes] = []
        self._fills: list[int] = []
        self.buffers: dict[Buffer, int] = {}
        self.constants: dict[int, int] = {}
        self._types: dict[Buffer, np.dtype] = {}
        for step in steps:
            for buffer in (*step.reads, *step.writes):
                if buffer not in self.buffers:
                    self.buffers[buffer] = self._add(self._start(buffer, arrays.get(buffer.name)), buffer.fill)
            for value in step.arguments.values():
                if isinstance(value, np.ndarray) and id(value) not in self.constants:
                    self.constants[id(value)] = self._add(value.tobytes())

    def _start(self, buffer: Buffer, array: np.ndarray | None) -> bytes:
        size = buffer.size * buffer.item
        self._types[buffer] = np.dtype(np.float32 if buffer.item == 4 else f"u{buffer.item}")
        if array is None:
            return bytes([buffer.fill if buffer.zeroed else 0xFF]) * size
        assert array.nbytes == size, f"{buffer.name}: {array.nbytes} bytes given, it has {size}"
        self._types[buffer] = array.dtype
        return array.tobytes()

    def _add(self, data: bytes, fill: int = 0) -> int:
        guard = bytes([fill]) * GUARD
        self.blocks.append(guard + data + guard)
        self._fills.append(fill)
        return len(self.blocks) - 1

    def contents(self, output: bytes) -> dict[str, np.ndarray]:
        ends = np.cumsum([len(block) for block in self.blocks])
        assert len(output) == ends[-1]
        after = [output[end - len(block) : end] for end, block in zip(ends, self.blocks, strict=True)]
        for block, fill in zip(after, self._fills, strict=True):
            guards = {*block[:GUARD], *block[-GUARD:]}
            assert guards == {fill}, "a step wrote outside of a buffer"
        return {
            buffer.name: np.frombuffer(after[i][GUARD:-GUARD], self._types[buffer]).copy()
            for buffer, i in self.buffers.items()
        }

    def slot(self, value: Argument) -> tuple[int, int]:
        """Block or -1, and byte in the block or value."""
        if isinstance(value, Address):
            return self.buffers[value.buffer], GUARD + value.offset * value.buffer.item
        if isinstance(value, np.ndarray):
            return self.constants[id(value)], GUARD
        if isinstance(value, float):
            return -1, struct.unpack("<q", struct.pack("<d", value))[0]
        return -1, int(value)


def _header(kernels: list[str]) -> str:
    words = {
        name: value for name, value in vars(layout).items() if name.isupper() and isinstance(value, int)
    }  # fmt: skip
    lines = [f"#define {name} {value}" for name, value in words.items()]
    lines.append("#define POOL_WORDS(threads) (WORKERS + (threads) * WORKER_WORDS)")
    lines += [f"void {name}(void *, int64_t, int64_t, void *);" for name in kernels]
    lines.append(f"static void (*const kernels[])(void *, int64_t, int64_t, void *) = {{{', '.join(kernels)}}};")
    return "\n".join(lines) + "\n"


def _input(
    steps: Sequence[Step], kernels: list[str], memory: _Memory, threads: int, runs: int, denormals: str
) -> bytes:
    stride = -(-max(step.scratch for step in steps) // 64) * 64 + 64
    words = [_words(threads, PARTS, runs, layout.MODES["aarch64"][denormals], stride, len(memory.blocks))]
    for block in memory.blocks:
        words += [_words(len(block)), block]
    words.append(_words(len(steps)))
    for step in steps:
        words.append(_words(kernels.index(step.kernel.name), len(step.kernel.fields)))
        words += [_words(*memory.slot(step.arguments[field])) for field in step.kernel.fields]
        words.append(split_parts(step.units, step.costs, threads, PARTS).tobytes())
    return b"".join(words)


def _words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)
