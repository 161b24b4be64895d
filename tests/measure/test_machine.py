"""The machine as it is, and as files of other machines describe it."""

import importlib.metadata
import json
import os
import platform

import pytest

from secateur.measure import Machine, machine
from secateur.measure.machine import _features, _fields, _physical_cores


def test_this_machine() -> None:
    found = machine()
    assert found.cpu
    assert 1 <= found.cpus <= (os.cpu_count() or 1)
    assert found.python == platform.python_version()
    assert found.packages["numpy"] == importlib.metadata.version("numpy")
    assert found.memory_bytes is None or found.memory_bytes > 2**28
    assert Machine.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert found.cpu in str(found)


@pytest.mark.skipif(platform.system() != "Linux", reason="compares with /proc/cpuinfo")
def test_features_of_this_machine_are_in_its_flags() -> None:
    from pathlib import Path

    text = Path("/proc/cpuinfo").read_text()
    assert all(feature in text or feature == "neon" for feature in machine().features)


X86 = """processor : 0
model name : Intel(R) Xeon(R)
physical id : 0
core id : 0
flags : fpu sse4_2 avx avx2 fma avx512f avx512_vnni made_up"""
ARM = """processor : 0
Features : fp asimd asimddp i8mm sve"""


def test_features_of_other_machines() -> None:
    x86 = _features([_fields(X86)])
    assert [name for name in x86 if name != "neon"] == ["sse4_2", "avx", "fma", "avx2", "avx512f", "avx512_vnni"]
    assert set(_features([_fields(ARM)])) == {"neon", "asimddp", "i8mm", "sve"}
    assert _features([{}]) in ((), ("neon",))


def test_two_threads_of_one_core_are_one_core() -> None:
    threads = [_fields(X86), _fields(X86), _fields(X86.replace("core id : 0", "core id : 1"))]
    assert _physical_cores(threads) == 2
