"""Whole networks of torchvision and timm agree with ONNX Runtime: dense, sparse, any batch, thread count and primitive.

Activations have the size that trained networks give them (planted.settle_). One network comes from secateur's own
exporter, the others from the older one of torch, which takes a tenth of the time and writes another dialect.
Networks of the whole zoo are compared by benchmarks/engine/zoo_agreement.py.
"""

import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import secateur
from secateur.engine.session import Session, compile_onnx

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks" / "engine"))
from planted import plant, pruned_share, settle_

SIDE = 64
SIZE = (3, SIDE, SIDE)
# Of the largest logit (ENGINE.md 5).
TOLERANCE = 1e-4

OURS = ("squeezenet1_1",)
THEIRS: Mapping[str, Mapping[str, int]] = {
    "resnet18": {}, "mobilenet_v2": {}, "mobilenet_v3_small": {},
    "efficientnet_b0": {}, "shufflenet_v2_x0_5": {}, "densenet121": {},
    "vit_tiny_patch16_224": {"img_size": SIDE},
}  # fmt: skip
SPARSE = (("unstructured", 0.9), ("1x4", 0.8), ("channels", 0.3))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], onnx.ModelProto]:
    """Models by name, exported once."""
    folder = tmp_path_factory.mktemp("models")

    def exported(name: str) -> onnx.ModelProto:
        path = folder / f"{name}.onnx"
        if not path.is_file():
            _export(name, path)
        return onnx.load(path)

    return exported


def _export(name: str, path: Path) -> None:
    # timm checks the size of images by itself.
    options = THEIRS.get(name, {})
    module = secateur.model(name, classes=100, **({"input_size": SIZE} | dict(options)))
    settle_(module, SIZE, images=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name in OURS:
            secateur.export_onnx(module, path)
        else:
            torch.onnx.export(
                module, (torch.zeros(2, *SIZE),), path, dynamo=False, opset_version=17,
                input_names=["input"], output_names=["logits"], dynamic_axes={"input": {0: "batch"}},
            )  # fmt: skip


def images(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).standard_normal((batch, *SIZE)).astype(np.float32)


def wanted(proto: onnx.ModelProto, batches: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Logits of ONNX Runtime by batch size."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {batch: np.asarray(session.run(None, {"input": images(batch)})[0]) for batch in batches}


def check(session: Session, logits: Mapping[int, np.ndarray]) -> None:
    for batch, expected in logits.items():
        found = session.run(images(batch))["logits"]
        assert np.abs(expected).max() > 1e-3, "the network's activations have vanished"
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert error <= TOLERANCE, f"batch {batch}: {error:.1e} of the largest logit\n{session.report()}"


@pytest.mark.parametrize("name", [*OURS, *THEIRS])
def test_dense(files: Callable[[str], onnx.ModelProto], name: str) -> None:
    proto = files(name)
    check(compile_onnx(proto, threads=2), wanted(proto, (1, 3)))


@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5"])
@pytest.mark.parametrize(("pattern", "sparsity"), SPARSE)
def test_sparse(files: Callable[[str], onnx.ModelProto], name: str, pattern: str, sparsity: float) -> None:
    proto = plant(files(name), pattern, sparsity)
    assert pruned_share(proto) == pytest.approx(sparsity, abs=0.03)
    session = compile_onnx(proto, threads=1)
    check(session, wanted(proto, (1, 3)))
    formats = {layer.choice.format for layer in session.report().layers if layer.choice}
    assert pattern == "channels" or formats - {"dense"}, "no layer uses its zeros"


@pytest.mark.parametrize("primitive", ["direct", "gemm", "pack"])
@pytest.mark.parametrize("name", ["squeezenet1_1"])
def test_primitives(files: Callable[[str], onnx.ModelProto], name: str, primitive: str) -> None:
    proto = plant(files(name), "unstructured", 0.9)
    session = compile_onnx(proto, threads=2, primitive=primitive)
    check(session, wanted(proto, (1, 3)))
    assert primitive in {layer.choice.primitive for layer in session.report().layers if layer.choice}


def test_linear_layers_of_a_transformer_may_be_sparse(files: Callable[[str], onnx.ModelProto]) -> None:
    proto = plant(files("vit_tiny_patch16_224"), "1x4", 0.8, operators=("Gemm", "MatMul"))
    check(compile_onnx(proto, threads=1), wanted(proto, (1, 3)))


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
def test_the_number_of_threads_does_not_change_the_bits(files: Callable[[str], onnx.ModelProto], name: str) -> None:
    proto = plant(files(name), "unstructured", 0.8)
    one, two = (compile_onnx(proto, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one.run(images(3))["logits"], two.run(images(3))["logits"])


def test_nothing_of_a_convolutional_network_runs_in_onnx_runtime(files: Callable[[str], onnx.ModelProto]) -> None:
    for name in (
        *OURS,
        "resnet18",
        "mobilenet_v2",
        "efficientnet_b0",
        "densenet121",
        "shufflenet_v2_x0_5",
        "mobilenet_v3_small",
    ):
        assert compile_onnx(files(name), threads=1).report().refused == {}, name
