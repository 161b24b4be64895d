"""Files that do not fit leave the network as it was, and say why in one sentence."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from secateur.errors import WeightsError
from secateur.zoo import Preprocessing, load_state_, load_weights_, metadata_of, model
from secateur.zoo.preprocessing import IMAGENET_MEAN, IMAGENET_STD

NAME = "resnet20_cifar10"


def _state(name: str = NAME, **options: int) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model(name, seed=5, **options).state_dict().items()}


def _same(module: nn.Module, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


@pytest.fixture
def safetensors_file(tmp_path: Path) -> Callable[..., Path]:
    def write(state: dict[str, Tensor], **metadata: str) -> Path:
        path = tmp_path / "weights.safetensors"
        save_file(state, path, metadata)
        return path

    return write


def test_safetensors_file_and_its_input(safetensors_file: Callable[..., Path]) -> None:
    module = model(NAME, weights=safetensors_file(_state(), input="ImageNet mean/std on 0..1"))
    assert _same(module, _state())
    assert module.preprocessing == Preprocessing((3, 32, 32), IMAGENET_MEAN, IMAGENET_STD, crop_pct=1.0)
    again = model(**module.zoo_options)
    assert again.preprocessing == module.preprocessing


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".th"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_torch_files(tmp_path: Path, suffix: str, wrapper: str | None, prefix: str) -> None:
    state = {prefix + key: value for key, value in _state().items()}
    path = tmp_path / f"weights{suffix}"
    old_format = suffix == ".th"
    content = {wrapper: state, "epoch": 3} if wrapper else state
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    assert _same(model(NAME, weights=path), _state())


def test_half_precision_is_widened_and_old_files_lack_counters(safetensors_file: Callable[..., Path]) -> None:
    state = {key: value.half() for key, value in _state().items() if "num_batches" not in key}
    module = model(NAME, weights=safetensors_file(state))
    assert module.conv1.weight.dtype == torch.float32
    assert torch.equal(module.conv1.weight, state["conv1.weight"].float())


def test_tensors_in_memory_with_their_metadata() -> None:
    module = model(NAME)
    load_state_(module, _state(), {"input": "x/127.5-1"}, "exported")
    assert _same(module, _state()) and module.preprocessing.mean == (0.5, 0.5, 0.5)


def test_other_naming_brings_its_options(safetensors_file: Callable[..., Path]) -> None:
    state = _state("mobilenet_v1_025_imagenet")
    parts = {"depthwise": "0", "depthwise_bn": "1", "pointwise": "3", "pointwise_bn": "4"}
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        first, *rest = key.split(".")
        if first == "blocks":
            layer = int(rest[0]) + 1
            stage = 1 + (layer >= 6) + (layer >= 12)
            key = f"stage{stage}.{layer - (0, 6, 12)[stage - 1]}.{parts[rest[1]]}.{rest[2]}"
        elif first == "stem":
            key = f"stage1.0.{'0' if rest[0] == 'conv' else '1'}.{rest[1]}"
        else:
            key = f"fc.{rest[0]}"
        renamed[key] = value
    path = safetensors_file(renamed, input="ImageNet mean/std on 0..1; LeakyReLU 0.1")
    module = model("mobilenet_v1_025_imagenet", weights=path)
    assert _same(module, state)
    built = {key: module.zoo_options[key] for key in ("padding", "activation", "bn_eps")}
    assert built == {"padding": "torch", "activation": "leaky_relu", "bn_eps": 1e-5}
    with pytest.raises(WeightsError, match=r"trained with padding torch, but .* built with padding tensorflow"):
        model("mobilenet_v1_025_imagenet", weights=path, padding="tensorflow")


def _refuses(path: Path, sentence: str, name: str = NAME, **options: object) -> None:
    """Both ways to load refuse with the sentence; the network that is there stays as it was."""
    with pytest.raises(WeightsError, match=sentence) as error:
        model(name, weights=path, **options)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
    module = model(name, seed=1, **options)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    described = module.preprocessing, module.zoo_options
    with pytest.raises(WeightsError, match=sentence):
        load_weights_(module, path)
    assert _same(module, before) and described == (module.preprocessing, module.zoo_options)


def test_no_such_file(tmp_path: Path) -> None:
    _refuses(tmp_path / "absent.safetensors", r"absent\.safetensors: no such weights file\.")
    _refuses(tmp_path, "is a folder")
    (tmp_path / "weights.bin").write_bytes(b"x")
    _refuses(tmp_path / "weights.bin", "weights files end in .safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.999])
def test_truncated(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(_state(), path)
    else:
        save_file(_state(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    _refuses(path, "not a whole")


def test_header_that_promises_more_than_the_file_holds(tmp_path: Path) -> None:
    header = json.dumps({"conv1.weight": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    _refuses(path, "not a whole safetensors file")
    path.write_bytes((1 << 60).to_bytes(8, "little"))
    _refuses(path, "not a whole safetensors file")


class _Code:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return Path.touch, (self.proof,)


@pytest.mark.parametrize("old_format", [False, True])
def test_pickle_with_code_is_not_run(tmp_path: Path, old_format: bool) -> None:
    proof, path = tmp_path / "ran", tmp_path / "weights.pth"
    content = {"conv1.weight": torch.zeros(1), "x": _Code(proof)}
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    _refuses(path, "could run code")
    path.write_bytes(pickle.dumps(content))
    _refuses(path, r"weights\.pth: (holds Python objects|not a whole torch file)")
    assert not proof.exists()


def test_compressed_archive_is_not_unfolded(tmp_path: Path) -> None:
    stored, packed = tmp_path / "stored.pth", tmp_path / "packed.pth"
    torch.save(_state(), stored)
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.namelist():
            target.writestr(part, source.read(part))
    _refuses(packed, "compressed archive")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3, "lr": 0.1}, torch.zeros(3), {}])
def test_torch_file_without_a_state_dict(tmp_path: Path, content: object) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    _refuses(path, "not a state dict|not a tensor|no tensors")


def test_file_for_another_network_names_it(safetensors_file: Callable[..., Path]) -> None:
    path = safetensors_file(_state("resnet56_cifar10"))
    _refuses(path, r"180 are unexpected \(the first is layer\S+\).* It fits resnet56_cifar10\.")
    path = safetensors_file(_state("resnet20b_cifar10"))
    _refuses(path, r"2 are missing \(the first is linear.weight\) and 12 are unexpected.*fits resnet20b_cifar10")


def test_file_that_says_what_it_holds(safetensors_file: Callable[..., Path]) -> None:
    other = model("squeezenet1_1", classes=10)
    path = safetensors_file({key: value.clone() for key, value in other.state_dict().items()}, **metadata_of(other))
    _refuses(path, "says that it holds squeezenet1_1")


def test_other_shapes(safetensors_file: Callable[..., Path]) -> None:
    state = _state()
    state["layer2.0.conv1.weight"] = torch.zeros(30, 16, 3, 3)
    _refuses(
        safetensors_file(state),
        r"1 tensors have other shapes .* layer2.0.conv1.weight, \[30, 16, 3, 3\] in the file and \[32, 16, 3, 3\]",
    )


def test_wrong_class_count_says_both(safetensors_file: Callable[..., Path]) -> None:
    _refuses(safetensors_file(_state(classes=100)), "has 100 classes, resnet20_cifar10 was built with 10; the head")
    _refuses(safetensors_file(_state()), "has 10 classes, resnet20_cifar10 was built with 7", classes=7)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_finite_names_the_tensor(safetensors_file: Callable[..., Path], bad: float) -> None:
    state = _state()
    state["layer3.2.bn2.running_var"][5] = bad
    _refuses(safetensors_file(state), "tensor layer3.2.bn2.running_var holds NaN or infinity in 1 of 64 places")


def test_far_larger_file(safetensors_file: Callable[..., Path]) -> None:
    _refuses(safetensors_file({"x": torch.zeros(3_000_000)}), "3,000,000 numbers, far more than the 27")


def test_integers_are_not_weights(safetensors_file: Callable[..., Path]) -> None:
    state = _state()
    state["conv1.weight"] = state["conv1.weight"].to(torch.int8)
    _refuses(safetensors_file(state), "conv1.weight is stored as torch.int8")


def test_contradiction_to_what_the_user_gave(safetensors_file: Callable[..., Path]) -> None:
    path = safetensors_file(_state(), input="ImageNet mean/std on 0..1")
    _refuses(path, r"trained with mean \(0.485.*but \(0.4, 0.4, 0.4\) was asked for", mean=0.4)
    assert model(NAME, weights=path, mean=IMAGENET_MEAN).preprocessing.std == IMAGENET_STD
    assert model(NAME, weights=path, crop_pct=0.9).preprocessing.crop_pct == 0.9


def test_contradiction_to_a_network_that_is_built(safetensors_file: Callable[..., Path]) -> None:
    path = safetensors_file(_state("mobilenet_v1_025_imagenet"), activation="relu")
    assert model("mobilenet_v1_025_imagenet", weights=path).zoo_options["activation"] == "relu"
    with pytest.raises(WeightsError, match=r"trained with activation relu, but .* activation relu6; build it with"):
        load_weights_(model("mobilenet_v1_025_imagenet"), path)


def test_input_that_is_not_understood_needs_the_users_word(safetensors_file: Callable[..., Path]) -> None:
    path = safetensors_file(_state(), input="as usual")
    _refuses(path, "says about its input 'as usual', which is not understood; pass mean and std")
    assert model(NAME, weights=path, mean=0.5, std=0.5).preprocessing.mean == (0.5, 0.5, 0.5)


def test_stated_classes_cannot_exhaust_memory(safetensors_file: Callable[..., Path]) -> None:
    said = json.dumps({"name": NAME, "classes": 10**12})
    path = safetensors_file(_state(), **{"secateur.model": said})
    with pytest.raises(WeightsError, match="says 1000000000000 classes, but none of its tensors"):
        model(NAME, weights=path)
    said = json.dumps({"name": "mobilenet_v1_cifar10", "width": 5000.0})
    path = safetensors_file(_state("mobilenet_v1_cifar10"), **{"secateur.model": said})
    with pytest.raises(WeightsError, match="other shapes"):
        model("mobilenet_v1_cifar10", weights=path)


def test_compact_files_say_how_they_are_read(safetensors_file: Callable[..., Path]) -> None:
    path = safetensors_file({"conv1.weight#values": torch.zeros(3), "secateur": torch.zeros(1)})
    _refuses(path, "compact form; read it with secateur.export.load_weights")


def test_any_module_can_be_loaded(safetensors_file: Callable[..., Path]) -> None:
    module = nn.Linear(3, 2)
    load_weights_(module, safetensors_file({"weight": torch.ones(2, 3), "bias": torch.ones(2)}))
    assert torch.equal(module.weight, torch.ones(2, 3))
