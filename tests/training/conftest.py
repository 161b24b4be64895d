"""The small training that these tests share, and programs that run it."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

JOB = Path(__file__).parent / "job.py"


@pytest.fixture(scope="session")
def job() -> ModuleType:
    """The functions of job.py."""
    # As many threads as the programs that run it: sums in another order would differ in the last bit.
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("training_job", JOB)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def run_job() -> Callable[..., subprocess.Popen[str]]:
    """Starts job.py with some arguments, alone or on several processes."""

    def start(*arguments: object, processes: int = 1) -> subprocess.Popen[str]:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        return subprocess.Popen(
            [sys.executable, *(launcher if processes > 1 else []), str(JOB), *map(str, arguments)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start
