"""Fixtures that every room's tests share."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Machines that are busy with other work make any example slow now and then.
settings.register_profile("secateur", deadline=None)
settings.load_profile("secateur")

# One test process per core is faster than one process with many threads on layers this small.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real images and pretrained weights; tests that need it are skipped where it is absent."""
    shared = Path(os.environ.get("SECATEUR_SHARED", REPOSITORY.parent / "shared"))
    if not (shared / "data" / "models").is_dir():
        pytest.skip("needs the real images and weights (set SECATEUR_SHARED to their folder)")
    return shared / "data"


# Recipes name the tests' tiny networks by module, here and in the processes that tests start.
TESTS = str(Path(__file__).resolve().parent)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (TESTS, os.environ.get("PYTHONPATH"))))
if TESTS not in sys.path:
    sys.path.insert(0, TESTS)
