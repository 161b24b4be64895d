"""Constants move into one read-only memory while a network is compiled; nothing keeps a second copy."""

import ctypes
import faulthandler
import os
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.networks import classifier, images
from secateur.engine.constants import Constants
from secateur.engine.memory import GUARD
from secateur.engine.options import Options
from secateur.engine.plan import NativePart, make_plan
from secateur.engine.session import compile_onnx
from secateur.engine.target import host_target
from secateur.graph.load import load_graph
from secateur.graph.passes import simplify


def test_placed_arrays_are_equal_aligned_and_read_only() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in ((3, 5), (0,), (), (2, 1, 7))]
    arrays += [array.astype(kind) for array in arrays for kind in ("u2", "i4", "f4")]
    constants = Constants()
    placed = [constants.place(array) for array in arrays]
    for array, there in zip(arrays, placed, strict=True):
        assert (there.dtype, there.shape) == (array.dtype, array.shape) and there.ctypes.data % 64 == 0
        np.testing.assert_array_equal(there, array)
        assert not there.flags.writeable


def test_an_array_that_comes_again_is_shared() -> None:
    constants, array = Constants(), np.arange(100)
    first = constants.place(array)
    size = constants.size
    assert constants.place(array) is first and constants.place(first) is first
    part = first[10:20]
    assert constants.place(part) is part
    assert constants.size == size
    assert constants.place(array.copy()) is not first


def test_an_array_with_the_identity_of_a_dead_one_is_not_mistaken_for_it() -> None:
    constants = Constants()
    for value in range(200):  # numpy reuses the memory of objects
        assert (constants.place(np.full(4, value)) == value).all()


def test_blocks_follow_each_other_with_zeros_around() -> None:
    constants = Constants()
    large = [np.full(300_000, value, np.float32) for value in (1, 2, 3)]
    placed = [constants.place(array) for array in large]
    addresses = [array.ctypes.data for array in placed]
    for array, there in zip(large, placed, strict=True):
        np.testing.assert_array_equal(there, array)
        assert len({address // (1 << 20) for address in addresses}) > 1
    assert constants.size >= 3 * large[0].nbytes + 2 * GUARD
    constants.seal()
    np.testing.assert_array_equal(placed[2], large[2])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_write_into_sealed_constants_ends_the_process() -> None:
    constants = Constants()
    address = constants.place(np.ones(10)).ctypes.data
    constants.seal()
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        ctypes.memset(address, 0, 1)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_weights_are_dropped_once_they_are_encoded() -> None:
    graph = simplify(load_graph(classifier(sparsity=0.8)))
    graph = replace(graph, constants={name: np.array(array) for name, array in graph.constants.items()})
    before = sum(array.nbytes for array in graph.constants.values())
    weights = [weakref.ref(array) for array in graph.constants.values() if array.ndim == 4]
    assert weights
    plan = make_plan(graph, host_target(), Options(threads=1))
    assert sum(array.nbytes for array in graph.constants.values()) < 0.05 * before
    assert not any(weight() is not None for weight in weights)
    for part in plan.parts:
        assert isinstance(part, NativePart)
        for step in part.program.program.steps:
            assert not any(value.flags.writeable for value in step.arguments.values() if isinstance(value, np.ndarray))


def test_a_network_that_loses_its_weights_computes_the_same_as_one_that_keeps_them() -> None:
    proto = classifier(sparsity=0.5)
    kept = compile_onnx(proto, threads=1, tune=True)  # needs the graph after compilation
    session = compile_onnx(proto, threads=1)
    x = images(3)
    np.testing.assert_allclose(session.run(x)["logits"], kept.run(x)["logits"], rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_counts_what_is_used_not_what_is_reserved() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096

    before = resident()
    constants = Constants(expected=1 << 30)
    constants.place(np.ones(1000, np.float32))
    assert constants.size < 20_000
    # Other tests of the process may take memory meanwhile, but not half a gigabyte.
    assert resident() - before < 1 << 29
