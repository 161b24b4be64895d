"""Kernels become objects that need nothing, and objects become addresses."""

import ctypes
import gc
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from engine.small_programs import Axpy, RowSums
from secateur.engine import compiler
from secateur.engine.compiler import Code, assembly, compile_kernels, compile_text
from secateur.engine.emit.builder import F32, KernelModule
from secateur.engine.object_file import read_object
from secateur.engine.target import cross_target, host_target
from secateur.errors import EngineError

TARGET = host_target()


def call(code: Code, factor: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    slots = np.zeros(4, np.int64)
    slots[:1].view(np.float64)[0] = factor
    slots[1:] = [array.ctypes.data for array in (x, y, out)]
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    function(code.address("test_axpy"))(slots.ctypes.data, 0, x.size // TARGET.lanes, None)
    return out


def test_a_loaded_kernel_computes():
    code = Code([compile_kernels([Axpy(), RowSums()], TARGET)], ["test_axpy", "test_row_sums"])
    x, y = np.arange(64, dtype=np.float32), np.ones(64, np.float32)
    np.testing.assert_array_equal(call(code, 2.0, x, y), 2 * x + 1)


def test_several_objects_load_together():
    images = [compile_kernels([kernel], TARGET) for kernel in (Axpy(), RowSums())]
    code = Code(images, ["test_axpy", "test_row_sums"])
    assert code.address("test_axpy") != code.address("test_row_sums")


def test_equal_kernels_give_equal_bytes_in_every_process():
    script = (
        "import hashlib; from engine.test_compiler import *;"
        "print(hashlib.sha256(compile_kernels([Axpy(), RowSums()], TARGET)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parent.parent,
        ).stdout
        for seed in "12"
    }  # fmt: skip
    assert len(digests) == 1 and len(digests.pop()) == 65


def test_objects_of_one_name_do_not_meet():
    """Two versions of a kernel can be loaded at the same time, and each stays while the other goes."""
    codes = [Code([compile_kernels([Axpy()], TARGET)], ["test_axpy"]) for _ in range(3)]
    assert len({code.address("test_axpy") for code in codes}) == 3
    x = np.arange(64, dtype=np.float32)
    del codes[0], codes[1]
    gc.collect()
    np.testing.assert_array_equal(call(codes[0], 1.0, x, x), 2 * x)


def test_memory_with_code_is_never_writable():
    code = Code([compile_kernels([Axpy()], TARGET)], ["test_axpy"])
    address = code.address("test_axpy")
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, rights = line.split()[:2]
        begin, end = (int(bound, 16) for bound in bounds.split("-"))
        if begin <= address < end:
            assert rights[:3] == "r-x"
            break
    else:
        pytest.fail("the code is nowhere")


@dataclass(frozen=True)
class ScalarFmaOfAnOldProcessor:
    fields = ("x",)
    name: str = "test_fma"

    def emit(self, module: KernelModule) -> None:
        with module.kernel(self.name, self.fields) as k:
            x = k.pointer("x")
            k.store_scalar(k.fma(k.load_scalar(x), k.load_scalar(x, 1), k.load_scalar(x, 2)), x)


def test_a_call_of_a_library_is_refused():
    """Without FMA instructions LLVM calls fmaf of the mathematics library."""
    old = replace(cross_target("avx2"), cpu="x86-64", features="")
    with pytest.raises(EngineError, match="A kernel for avx2 calls fmaf, which no kernel may"):
        compile_kernels([ScalarFmaOfAnOldProcessor()], old)


@dataclass(frozen=True)
class Invalid:
    fields = ("x",)
    name: str = "test_invalid"

    def emit(self, module: KernelModule) -> None:
        with module.kernel(self.name, self.fields) as k:
            module.intrinsic("llvm.fma.f32", F32, [F32])  # has three arguments in truth
            k.call("fma", k.f32(1.0))


def test_invalid_code_is_refused():
    with pytest.raises(EngineError, match=f"A kernel for {TARGET.isa} is not valid LLVM IR: "):
        compile_kernels([Invalid()], TARGET)
    with pytest.raises(EngineError, match="not valid LLVM IR"):
        compile_text("define void @f( {", TARGET)


def test_zero_fill_is_no_call_of_memset():
    @dataclass(frozen=True)
    class Fill:
        fields = ("x",)
        name: str = "test_fill"

        def emit(self, module: KernelModule) -> None:
            with module.kernel(self.name, self.fields) as k, k.loop(k.begin, k.end) as i:
                k.store_scalar(k.f32(0.0), k.pointer("x"), i)

    assert read_object(compile_kernels([Fill()], TARGET)).undefined == frozenset()


def test_missing_symbols_and_damaged_objects():
    image = compile_kernels([Axpy()], TARGET)
    with pytest.raises(EngineError, match="cannot be loaded"):
        Code([image], ["test_other"])
    with pytest.raises(EngineError, match="cannot be loaded"):
        Code([image[: len(image) // 2]], ["test_axpy"])
    assert Code([image], ["test_axpy"]).address("test_axpy")


def test_systems_that_forbid_new_code(monkeypatch):
    class Refusing:
        def check_jit_execution(self):
            raise OSError(13, "Permission denied")

    monkeypatch.setattr(compiler, "llvm", Refusing())
    compiler._loader.cache_clear()
    try:
        with pytest.raises(EngineError, match=r"let a process make its own machine code \(Permission denied\)"):
            compiler._loader()
    finally:
        compiler._loader.cache_clear()


@pytest.mark.parametrize("isa", ["avx512", "avx2", "neon"])
def test_assembly_of_every_processor(isa):
    text = assembly([Axpy()], cross_target(isa))
    assert {"avx512": "zmm", "avx2": "ymm", "neon": "v0.4s"}[isa] in text or (isa == "neon" and "fmla" in text)
    assert "zmm" not in text or isa == "avx512"


def test_objects_of_a_mac():
    target = replace(cross_target("neon"), triple="arm64-apple-macosx14.0.0", cpu="apple-m1")
    found = read_object(compile_kernels([Axpy(), RowSums()], target))
    assert (found.machine, found.defined, found.undefined) == ("aarch64", {"test_axpy", "test_row_sums"}, frozenset())
    assert not found.runs_itself


@pytest.mark.parametrize("size", [0, 3, 20, 63, 64, 200, 500])
def test_parts_of_objects_are_not_objects(size):
    for target in (TARGET, replace(cross_target("neon"), triple="arm64-apple-macosx14.0.0", cpu="apple-m1")):
        image = compile_kernels([Axpy()], target)
        with pytest.raises(ValueError, match="object file"):
            read_object(image[: min(size, len(image) - 64)])
