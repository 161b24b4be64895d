"""compile and benchmark: what they take, and that they need no torch."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import pytest

import secateur
from engine.networks import classifier, images, reference
from secateur.errors import ModelError, SecateurError

BLOCKED = """
    import sys

    class Block:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("torch", "torchvision", "timm"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Block())
"""
PROGRAM = """
    import sys
    import numpy as np
    import secateur

    session = secateur.compile(sys.argv[1], threads=1)
    print(session.run(np.ones((2, 3, 16, 16), np.float32))["logits"].shape)
    print(secateur.InferenceSession(sys.argv[1]).run(None, {"input": np.ones((1, 3, 16, 16), np.float32)})[0].shape)
    session.profile(rounds=2)
    result = secateur.benchmark(sys.argv[1], runtimes=["secateur", "onnxruntime"], threads=[1], repeats=2, warmup=1)
    print([row.runtime for row in result.rows if row.timing])
    assert "torch" not in sys.modules
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(classifier(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("program", [PROGRAM, BLOCKED + PROGRAM], ids=["torch installed", "torch blocked"])
def test_an_onnx_file_needs_no_torch(path: Path, program: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["(2, 6)", "(1, 6)", "['secateur', 'onnxruntime']"]


def test_the_small_network_of_the_tests_runs_natively(tmp_path: Path) -> None:
    program = """
        import sys, numpy as np, secateur
        session = secateur.compile(sys.argv[1], threads=1)
        session.run(np.ones((2, 3, 16, 16), np.float32))
        assert session.report().refused == {}, session.report()
    """
    onnx.save(classifier(), tmp_path / "model.onnx")
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("form", ["path", "text", "folder", "bytes", "proto"])
def test_every_form_of_a_model(path: Path, form: str) -> None:
    source = {
        "path": path, "text": str(path), "folder": path.parent, "bytes": path.read_bytes(), "proto": onnx.load(path)
    }[form]  # fmt: skip
    x = images(2)
    made = secateur.compile(source, threads=1).run(x)["logits"]
    np.testing.assert_allclose(made, reference(onnx.load(path), {"input": x})[0], rtol=1e-4, atol=1e-5)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no model\.onnx"):
        secateur.compile(tmp_path)


def test_what_is_no_model() -> None:
    with pytest.raises(ModelError, match="a int cannot be compiled: give an ONNX file or a torch network"):
        secateur.compile(3)  # type: ignore[arg-type]


def test_a_torch_network_with_preprocessing() -> None:
    import torch

    import tiny_networks

    network = tiny_networks.network().eval()
    x = images(3)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    session = secateur.compile(network, threads=1)
    np.testing.assert_allclose(session.run(x)["logits"], expected, rtol=1e-4, atol=1e-5)


def test_a_torch_network_whose_input_size_comes_from_images() -> None:
    import torch

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten()).eval()
    with pytest.raises(SecateurError, match="preprocessing"):
        secateur.compile(network)
    x = images(2, 10)
    session = secateur.compile(network, threads=1, images=x)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(session.run(x)["logits"], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="count, channels, height, width"):
        secateur.compile(network, images=x[0])
