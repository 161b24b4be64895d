"""The names that `import secateur` offers."""

import subprocess
import sys

import pytest

import secateur


@pytest.mark.parametrize("name", [name for name in secateur.__all__ if not name.startswith("__")])
def test_every_promised_name_is_there(name):
    assert getattr(secateur, name).__doc__


def test_importing_secateur_needs_neither_torch_nor_onnxruntime():
    script = "import sys, secateur; sys.exit(any(m in sys.modules for m in ('torch', 'onnxruntime', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="compres"):
        _ = secateur.compres


def test_version_is_that_of_the_package():
    assert secateur.__version__.count(".") == 2
