"""Kernels are compiled once: for the process, and for the next one."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from engine.small_programs import Axpy, RowSums
from secateur.engine import kernel_code
from secateur.engine.kernel_code import key_of, load_kernels
from secateur.engine.object_cache import ObjectCache
from secateur.engine.runner_ir import Runner
from secateur.engine.target import host_target

TARGET = host_target()


def test_keys_tell_everything_apart():
    targets = [TARGET, replace(TARGET, cpu="x86-64"), replace(TARGET, features=TARGET.features + ",+xyz")]
    kernels = [Axpy(), RowSums(), Axpy(name="test_other"), Runner()]
    keys = {key_of(kernel, target) for target in targets for kernel in kernels if target is TARGET or kernel == Axpy()}
    assert len(keys) == 4 + 2
    assert key_of(Axpy(), TARGET) == key_of(Axpy(), TARGET)


def test_the_source_of_kernels_is_part_of_the_key(monkeypatch):
    before = key_of(Runner(), TARGET), key_of(Axpy(), TARGET)
    monkeypatch.setattr(kernel_code, "_source_hash", lambda: "another version")
    after = key_of(Runner(), TARGET), key_of(Axpy(), TARGET)
    assert before[0] != after[0]
    assert before[1] == after[1], "a kernel from elsewhere is known by its IR"


def test_a_kernel_is_loaded_once(tmp_path):
    cache = ObjectCache(tmp_path / "cache")
    first = load_kernels([Axpy()], TARGET, cache)["test_axpy"]
    second = load_kernels([Axpy(), RowSums()], TARGET, cache)
    assert second["test_axpy"] is first
    assert first.address != second["test_row_sums"].address
    assert first.size > 0


def test_another_process_compiles_nothing(tmp_path):
    code = """
        import json, sys
        from unittest import mock
        from engine.test_native import *
        from secateur.engine import kernel_code
        made, compiled = pipeline(), []
        real = kernel_code.compile_kernels
        with mock.patch.object(kernel_code, "compile_kernels", lambda k, t: compiled.append(k[0].name) or real(k, t)):
            program = NativeProgram(made.program, TARGET, 2)
        good = np.array_equal(program.run({"x": some()})["y"], made.expected(some()))
        print(json.dumps([sorted(compiled), bool(good)]))
    """
    environment = dict(os.environ, SECATEUR_CACHE=str(tmp_path / "cache"), PYTHONHASHSEED="random")

    def process() -> list:
        done = subprocess.run(
            [sys.executable, "-c", code.replace("\n        ", "\n").strip()],
            capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent, env=environment,
        )  # fmt: skip
        return json.loads(done.stdout)

    everything = ["secateur_runner", "test_axpy", "test_row_sums"]
    assert process() == [everything, True]
    assert process() == [[], True]
    damaged = next(path for path in (tmp_path / "cache" / "kernels-v1").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-1])
    again, good = process()
    assert len(again) == 1 and good
    assert process() == [[], True]


class SlowCache(ObjectCache):
    """A cache that lets another thread fork while it is asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked = threading.Event()

    def get(self, *what):
        self.asked.set()
        time.sleep(0.5)
        return super().get(*what)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_forked_while_another_thread_loads_kernels_can_load_kernels(tmp_path):
    cache = SlowCache(tmp_path / "cache")
    loader = threading.Thread(target=load_kernels, args=([Axpy(name="test_slow")], TARGET, cache))
    loader.start()
    assert cache.asked.wait(20)
    child = os.fork()
    if child == 0:
        load_kernels([Axpy(name="test_of_a_child")], TARGET, ObjectCache(tmp_path / "cache"))
        os._exit(0)
    loader.join()
    deadline = time.monotonic() + 60
    while not (done := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.05)
    if not done[0]:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert done == (child, 0), "the child waits for a lock that nobody will release"
