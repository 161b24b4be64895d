"""A bit for every block: size by closed form, both directions, any tensor comes back, hostile parts refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import ArtifactError
from secateur.sparsity.compact import Packed, pack_tensor, stored_bytes, unpack_tensor
from secateur.sparsity.formats import storage_formats
from secateur.sparsity.formats.block_bitmask import block_bitmask_bytes


def blocks_of_four(shape, along, density=0.2, dtype=torch.int8):
    """Values of 1 to 127 in whole blocks of four along input channels or filters."""
    random = np.random.default_rng(0)
    values = random.integers(1, 128, shape)
    axis = 1 if along == "in" else 0
    coarse = list(shape)
    coarse[axis] //= 4
    kept = np.zeros(int(np.prod(coarse)), bool)
    kept[random.permutation(kept.size)[: round(density * kept.size)]] = True
    mask = np.repeat(kept.reshape(coarse), 4, axis=axis)
    return torch.from_numpy(values * mask).to(dtype)


@pytest.mark.parametrize("along", ["in", "out"])
@pytest.mark.parametrize("shape", [(256, 256), (64, 64, 3, 3)])
def test_blocks_of_eight_bits_cost_a_bit_each(shape, along):
    layer = blocks_of_four(shape, along)
    kept = int(torch.count_nonzero(layer)) // 4
    expected = -(-layer.numel() // 4 // 8) + 4 * kept
    assert stored_bytes(layer)["block_bitmask"] == expected == block_bitmask_bytes(layer.numel() // 4, kept, 4, 1)
    packed = pack_tensor(layer)
    assert packed.description == {"format": "block_bitmask", "shape": list(shape), "n": 4, "along": along}
    assert torch.equal(unpack_tensor(packed), layer)
    # A fifth of the values, a 32nd for their places: 23.1 %.
    assert abs(expected / layer.numel() - (0.2 + 1 / 32)) < 1e-3


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 20), st.integers(1, 20), st.lists(st.integers(1, 3), max_size=2), st.sampled_from(["in", "out"]),
    st.sampled_from([2, 4, 8, 16]), st.integers(0, 10**6),
)  # fmt: skip
def test_any_tensor_comes_back(filters, channels, kernel, along, size, seed):
    random = np.random.default_rng(seed)
    bits = random.integers(0, 256, (filters, channels, *kernel)).astype(np.uint8)
    bits[random.random(bits.shape) < 0.7] = 0
    format = storage_formats["block_bitmask"]()
    best = format.best(bits)
    if best is None:
        assert max(filters, channels) < 2
        return
    for form in (best, type(best)("block_bitmask", 0, {"n": size, "along": along})):
        parts = format.pack(bits, form)
        if form is best:
            assert sum(array.nbytes for array in parts.values()) == form.bytes
        assert np.array_equal(format.unpack(parts, form, bits.shape), bits)


def test_contradictions_are_refused():
    packed = pack_tensor(blocks_of_four((32, 32), "in"))
    for change, fault in (
        ({"n": 3}, "do not exist"),
        ({"along": "up"}, "do not exist"),
        ({"shape": [1024]}, "two dimensions"),
        ({"shape": [32, 64]}, "mask has"),
        ({"n": 8}, "mask has"),
    ):
        with pytest.raises(ArtifactError, match=fault):
            unpack_tensor(Packed(packed.parts, packed.description | change))
    with pytest.raises(ArtifactError, match="values are stored"):
        unpack_tensor(Packed(packed.parts | {"values": packed.parts["values"][:-1]}, packed.description))
    beyond = Packed(
        {"mask": torch.tensor([255], dtype=torch.uint8), "values": torch.ones(32, dtype=torch.int8)},
        {"format": "block_bitmask", "shape": [4, 7], "n": 4, "along": "in"},
    )
    with pytest.raises(ArtifactError, match="behind the last channel"):
        unpack_tensor(beyond)
