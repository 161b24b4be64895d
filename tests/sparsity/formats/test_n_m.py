"""N:M packed: size by closed form, found from the zeros, hostile parts refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import ArtifactError
from secateur.export.weights_file import load_weights, save_weights
from secateur.sparsity import NM, make_mask
from secateur.sparsity.compact import Packed, pack_tensor, stored_bytes, unpack_tensor
from secateur.sparsity.formats.n_m import n_m_bytes


def sparse(shape, n, m, dtype=torch.float32, skip="multiple"):
    weight = torch.rand(shape, generator=torch.Generator().manual_seed(0)) + 0.5
    pattern = NM(n, m, skip)
    return (weight * make_mask(weight, pattern, pattern.fixed_level)).to(dtype)


@pytest.mark.parametrize(
    ("n", "m", "dtype", "size"),
    [
        (2, 4, torch.float32, 139_264),
        (1, 4, torch.float32, 16_384 * 4 + 4_096),
        (1, 2, torch.float32, 32_768 * 4 + 4_096),
        (4, 8, torch.float32, 32_768 * 4 + 32_768 * 3 // 8),
        (2, 4, torch.float16, 65_536 + 8_192),
        (2, 4, torch.int8, 32_768 + 8_192),
    ],
)
def test_size_of_the_published_layer(n, m, dtype, size):
    layer = sparse((256, 256), n, m) if dtype != torch.int8 else (sparse((256, 256), n, m) * 100).to(dtype)
    assert stored_bytes(layer.to(dtype))["n_m"] == size
    assert n_m_bytes(256 * 256, n, m, layer.to(dtype).element_size()) == size


@pytest.mark.parametrize("shape", [(64, 64), (32, 64, 1, 1), (16, 32, 3, 3), (16, 30, 5), (8, 42, 3, 3)])
def test_two_of_four_is_found_and_comes_back(shape):
    layer = sparse(shape, 2, 4, skip="pad")
    packed = pack_tensor(layer)
    assert packed is not None
    if shape[1] % 4 == 0:
        assert packed.description == {"format": "n_m", "shape": list(shape), "n": 2, "m": 4}
    assert torch.equal(unpack_tensor(packed), layer)


def test_one_of_four_is_smaller_than_any_other_form():
    layer = sparse((64, 64, 3, 3), 1, 4)
    packed = pack_tensor(layer)
    assert packed.description["format"] == "n_m" and (packed.description["n"], packed.description["m"]) == (1, 4)
    sizes = stored_bytes(layer)
    assert sizes["n_m"] == min(sizes.values())


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5), st.integers(1, 70), st.lists(st.integers(1, 3), max_size=2),
    st.sampled_from([(1, 2), (2, 4), (3, 4), (4, 8), (1, 16), (5, 32)]), st.integers(0, 10**6),
)  # fmt: skip
def test_any_mask_comes_back(filters, channels, kernel, pattern, seed):
    n, m = pattern
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand((filters, channels, *kernel), generator=generator) + 0.1
    rule = NM(n, m, "pad")
    if channels > n:
        weight = weight * make_mask(weight, rule, rule.fixed_level)
    weight = weight * (torch.rand(weight.shape, generator=generator) < 0.9)
    bits = weight.contiguous().view(torch.int32).numpy().view("u4")
    from secateur.sparsity.formats import storage_formats

    format = storage_formats["n_m"]()
    form = format.best(bits)
    if form is not None:
        parts = format.pack(bits, form)
        assert sum(array.nbytes for array in parts.values()) == form.bytes
        assert (format.unpack(parts, form, bits.shape) == bits).all()


def test_a_file_is_small_and_reloads(tmp_path):
    state = {"conv.weight": sparse((128, 128, 3, 3), 2, 4)}
    save_weights(tmp_path / "w.safetensors", state, {})
    assert (tmp_path / "w.safetensors").stat().st_size < 0.54 * state["conv.weight"].nbytes
    again, _ = load_weights(tmp_path / "w.safetensors")
    assert torch.equal(again["conv.weight"], state["conv.weight"])


def hostile(**change):
    packed = pack_tensor(sparse((30, 44, 3, 3), 1, 4))
    return Packed(packed.parts, {**packed.description, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"n": 0}, {"n": 4}, {"n": "2"}, {"m": 3}, {"m": 10**9}, {"m": None}, {"m": 8}, {"shape": [30]},
        {"shape": [31, 44, 3, 3]}, {"shape": [30, 46, 3, 3]},
    ],
)  # fmt: skip
def test_a_description_that_lies_is_refused(change):
    with pytest.raises(ArtifactError):
        unpack_tensor(hostile(**change))


@pytest.mark.parametrize("part", ["positions", "values"])
def test_missing_short_and_long_parts_are_refused(part):
    packed = hostile()
    parts = {name: tensor for name, tensor in packed.parts.items() if name != part}
    with pytest.raises(ArtifactError, match=f"'{part}' is missing"):
        unpack_tensor(Packed(parts, packed.description))
    for damaged in (packed.parts[part][:-1], torch.cat([packed.parts[part], packed.parts[part][:1]])):
        with pytest.raises(ArtifactError):
            unpack_tensor(Packed({**packed.parts, part: damaged}, packed.description))


def test_positions_that_do_not_climb_are_refused():
    packed = pack_tensor(sparse((64, 64), 2, 4))
    assert packed.description["n"] == 2
    positions = packed.parts["positions"].clone()
    positions[0] = 0
    with pytest.raises(ArtifactError, match="do not climb inside a group"):
        unpack_tensor(Packed({**packed.parts, "positions": positions}, packed.description))


def test_bits_behind_the_last_group_are_refused():
    packed = pack_tensor(sparse((33, 60), 1, 4))  # 495 positions of two bits
    positions = packed.parts["positions"].clone()
    positions[-1] |= 0xC0
    with pytest.raises(ArtifactError, match="behind the last group"):
        unpack_tensor(Packed({**packed.parts, "positions": positions}, packed.description))
