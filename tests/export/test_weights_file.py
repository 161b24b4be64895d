"""A file as small as its nonzeros, equal byte for byte, and hostile ones refused in one sentence."""

import itertools
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from secateur.errors import ArtifactError
from secateur.export import load_weights, save_weights

META = {"zoo_name": "resnet20", "preprocessing": '{"mean": [0.5]}'}


def _resnet20(pattern: str) -> dict[str, torch.Tensor]:
    """The tensors of a CIFAR ResNet-20 at 80 %: first convolution and classifier dense, norms and counters."""
    torch.manual_seed(0)
    state: dict[str, torch.Tensor] = {"conv1.weight": torch.randn(16, 3, 3, 3)}
    widths = [16] * 7 + [32] * 6 + [64] * 6
    for index, (before, width) in enumerate(itertools.pairwise(widths)):
        weight = torch.randn(width, before, 3, 3)
        if pattern == "1x4":
            keep = torch.rand(width // 4, before).argsort(1) < round(0.2 * before)
            mask = keep.repeat_interleave(4, 0)[:, :, None, None].expand_as(weight)
        else:
            mask = torch.rand_like(weight) < 0.2
        state[f"layers.{index}.weight"] = weight.masked_fill(~mask, 0.0)
    for index, width in enumerate(widths):
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"norms.{index}.{name}"] = torch.randn(width)
        state[f"norms.{index}.num_batches_tracked"] = torch.tensor(391)
    state["fc.weight"], state["fc.bias"] = torch.randn(10, 64), torch.randn(10)
    return state


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    def raw(tensor: torch.Tensor) -> bytes:
        return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()

    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and raw(a[k]) == raw(b[k]) for k in a
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_weights(path, _resnet20("1x4"), META)
    return path


@pytest.mark.parametrize(("pattern", "at_most"), [("1x4", 0.25), ("unstructured", 0.26)])
def test_at_80_percent_the_file_is_a_quarter_of_the_dense_one(tmp_path: Path, pattern: str, at_most: float) -> None:
    state = _resnet20(pattern)
    save_file(state, tmp_path / "dense.safetensors")
    save_weights(tmp_path / "weights.safetensors", state, META)
    dense = (tmp_path / "dense.safetensors").stat().st_size
    assert (tmp_path / "weights.safetensors").stat().st_size <= at_most * dense


def test_everything_comes_back(file: Path) -> None:
    state, metadata = load_weights(file)
    assert _equal(state, _resnet20("1x4"))
    assert metadata == META


def test_equal_content_is_an_equal_file(file: Path, tmp_path: Path) -> None:
    for attempt in range(4):
        save_weights(tmp_path / f"{attempt}", _resnet20("1x4"), META)
        assert (tmp_path / f"{attempt}").read_bytes() == file.read_bytes()


def test_shared_and_transposed_tensors_are_saved(tmp_path: Path) -> None:
    weight = torch.randn(6, 4)
    state = {"a": weight, "tied": weight, "view": weight.t()}
    save_weights(tmp_path / "w", state, {})
    assert _equal(load_weights(tmp_path / "w")[0], state)


def test_a_plain_safetensors_file_from_elsewhere_loads(tmp_path: Path) -> None:
    state = {"a#values": torch.zeros(100, 100), "b": torch.ones(2, dtype=torch.bfloat16)}
    save_file(state, tmp_path / "plain", metadata={"format": "pt"})
    loaded, metadata = load_weights(tmp_path / "plain")
    assert _equal(loaded, state)
    assert metadata == {"format": "pt"}


def test_the_parts_are_readable_without_secateur(file: Path) -> None:
    parts = load_file(file)
    assert parts["layers.0.weight#values"].dtype == torch.float32
    assert "layers.0.weight" not in parts


@given(
    shape=st.lists(st.integers(0, 24), min_size=0, max_size=4),
    density=st.sampled_from([0.0, 0.02, 0.2, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.int64, torch.bool]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tensor_comes_back_bit_for_bit(
    tmp_path: Path, shape: list[int], density: float, dtype: torch.dtype
) -> None:
    tensor = ((torch.rand(shape) < density) * (torch.rand(shape) * 100 - 50)).to(dtype)
    save_weights(tmp_path / "w", {"t": tensor}, {})
    assert _equal(load_weights(tmp_path / "w")[0], {"t": tensor})


def test_a_name_that_is_needed_twice_is_refused(tmp_path: Path) -> None:
    state = {"a": torch.zeros(64, 64), "a#values": torch.ones(3)}
    with pytest.raises(ArtifactError, match="'a#values' is needed twice"):
        save_weights(tmp_path / "w", state, {})
    assert not list(tmp_path.iterdir())


# --- hostile files ---


def _header(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _rewrite(path: Path, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def _describe(path: Path, change: dict[str, Any]) -> None:
    header, data = _header(path)
    own = json.loads(header["__metadata__"]["secateur"])
    header["__metadata__"]["secateur"] = json.dumps({**own, **change})
    _rewrite(path, header, data)


def _refused(path: Path, match: str | None = None) -> None:
    with pytest.raises(ArtifactError, match=match) as caught:
        load_weights(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 5000, -1])
def test_a_truncated_file(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])
    _refused(file, "not a whole safetensors file")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    _refused(tmp_path / "nothing", "no such file")
    _refused(tmp_path, "no such file")


@pytest.mark.parametrize("content", [b"PK\x03\x04 a pickle in a zip", b"\xff" * 64, b"{}", b"\x80\x02}q\x00."])
def test_another_kind_of_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w"
    path.write_bytes(content)
    _refused(path, "not a whole safetensors file")


def test_a_part_that_is_missing(file: Path) -> None:
    own = json.loads(_header(file)[0]["__metadata__"]["secateur"])
    tensors = {**own["tensors"], "ghost": own["tensors"]["layers.0.weight"]}
    _describe(file, {"tensors": tensors})
    _refused(file, "tensor 'ghost' is damaged: its part 'values' is missing")


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2}, {"version": None}, {"metadata": []}, {"metadata": {"a": 1}}, {"tensors": [1]},
        {"tensors": {"layers.0.weight": 3}}, {"tensors": None},
    ],
)  # fmt: skip
def test_a_header_of_another_form(file: Path, change: dict[str, Any]) -> None:
    _describe(file, change)
    _refused(file, "header")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"version": 1, "version": 1}', "null", "NaN"])
def test_a_header_that_is_not_json(file: Path, text: str) -> None:
    header, data = _header(file)
    header["__metadata__"]["secateur"] = text
    _rewrite(file, header, data)
    _refused(file, "header")


def test_a_tensor_that_is_stored_dense_and_sparse(file: Path) -> None:
    own = json.loads(_header(file)[0]["__metadata__"]["secateur"])
    _describe(file, {"tensors": {**own["tensors"], "fc.weight": own["tensors"]["layers.0.weight"]}})
    _refused(file, "stored twice")


def test_a_name_that_appears_twice_in_the_header(tmp_path: Path) -> None:
    entry = '"a":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}'
    text = ("{" + entry % (0, 4) + "," + entry % (4, 8) + "}").encode()
    (tmp_path / "w").write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    _refused(tmp_path / "w")


def test_tensors_that_would_unfold_beyond_the_limit(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.export.weights_file.MAX_BYTES", 100_000)
    _refused(file, "would take more than 100,000 bytes")


@given(position=st.integers(0, 2**31), value=st.integers(0, 255))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_is_either_another_value_or_one_sentence(tmp_path: Path, position: int, value: int) -> None:
    path = tmp_path / "w"
    save_weights(path, {"layer": _resnet20("1x4")["layers.8.weight"], "bias": torch.ones(3)}, META)
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(content)
    try:
        state, _ = load_weights(path)
    except ArtifactError as error:
        assert "\n" not in str(error)
    else:
        assert sum(tensor.numel() for tensor in state.values()) < 200_000
