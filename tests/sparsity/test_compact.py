"""Sizes against the closed forms, and every bit of every tensor back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import ArtifactError
from secateur.export import Packed, pack_tensor, stored_bytes, unpack_tensor
from secateur.sparsity.compact import DENSE
from secateur.sparsity.formats import storage_formats
from secateur.sparsity.formats.bitmask import bitmask_bytes
from secateur.sparsity.formats.block import block_bytes
from secateur.sparsity.formats.csr import csr_bytes
from secateur.sparsity.formats.n_m import n_m_bytes

DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16, torch.int32,
    torch.int64, torch.bool,
)  # fmt: skip


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    def raw(tensor: torch.Tensor) -> bytes:
        return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()

    return a.dtype == b.dtype and a.shape == b.shape and raw(a) == raw(b)


def _blocks(filters: int, channels: int, kernel: int, n: int, keep: float, seed: int = 0) -> torch.Tensor:
    """Random values in 1xN blocks over the whole kernel, exactly `keep` of them."""
    generator = torch.Generator().manual_seed(seed)
    rows = -(-filters // n)
    order = torch.randperm(rows * channels, generator=generator)
    mask = torch.zeros(rows * channels, dtype=torch.bool)
    mask[order[: round(keep * rows * channels)]] = True
    mask = mask.view(rows, channels).repeat_interleave(n, 0)[:filters]
    values = torch.rand(filters, channels, kernel, kernel, generator=generator) + 0.5
    return values * mask[:, :, None, None]


# --- closed forms: ALGORITHMS L13, a 256x256 1x1 layer at 80 %, fp32 ---


def test_closed_forms_of_the_published_layer() -> None:
    assert bitmask_bytes(65536, 13108, 4) == 60_624
    assert csr_bytes(256, 13108, 4, 4) == 105_892
    assert csr_bytes(256, 13108, 4, 2) == 79_676
    assert block_bytes(256, 3277, 4, 1, 4, 4) == 65_800
    assert n_m_bytes(65536, 2, 4, 4) == 139_264


def test_stored_bytes_of_the_published_layer() -> None:
    layer = _blocks(256, 256, 1, 4, keep=3277 / 16384)
    assert int(layer.count_nonzero()) == 13_108
    sizes = stored_bytes(layer)
    assert sizes == {
        DENSE: 262_144,
        "bitmask": 60_624,
        "block_bitmask": 16_384 // 8 + 3277 * 16,
        "csr": 79_676,
        "block": 65_800 - 2 * 3277,  # the same blocks with an index of two bytes
        "n_m": sizes["n_m"],  # its fullest group decides: of no use for blocks
    }
    assert sizes["n_m"] > sizes["bitmask"]


@given(
    filters=st.integers(2, 40), channels=st.integers(1, 6), kernel=st.integers(1, 3), n=st.integers(2, 32),
    keep=st.floats(0.0, 1.0),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_blocks_of_any_size_and_remainder_cost_what_the_closed_form_says(
    filters: int, channels: int, kernel: int, n: int, keep: float
) -> None:
    layer = _blocks(filters, channels, kernel, n, keep)
    stored = layer.flatten(2).any(2)  # (filters, channels)
    whole = sum(int(stored[top : top + n].any(0).sum()) for top in range(0, filters - filters % n, n))
    short = int(stored[filters - filters % n :].any(0).sum()) if filters % n else 0
    closed = block_bytes(filters, whole, n, kernel * kernel, 4, 2, short)
    assert stored_bytes(layer)["block"] <= closed, "the search may find a better form, never a worse one"
    by_hand = whole * (n * kernel * kernel * 4 + 2) + short * (filters % n * kernel * kernel * 4 + 2)
    assert closed == by_hand + (-(-filters // n) + 1) * 4


@pytest.mark.parametrize("n", [2, 3, 4, 8, 31, 32])
def test_the_search_finds_the_block_size(n: int) -> None:
    layer = _blocks(n * 6 + 1, 64, 3, n, keep=0.2)
    packed = pack_tensor(layer)
    assert packed is not None
    assert packed.description["format"] == "block"
    assert (packed.description["n"], packed.description["span"]) == (n, "kernel")


def test_fine_blocks_are_stored_by_position() -> None:
    """So few of them that an index for each costs less than a bit for all."""
    torch.manual_seed(0)
    mask = torch.zeros(4, 64 * 9, dtype=torch.bool)
    for row in mask:
        row[torch.randperm(64 * 9)[:20]] = True
    layer = (torch.rand(16, 64 * 9) + 0.5) * mask.repeat_interleave(4, 0)
    packed = pack_tensor(layer.view(16, 64, 3, 3))
    assert packed is not None
    assert (packed.description["n"], packed.description["span"]) == (4, "position")
    assert packed.parts["values"].numel() == 16 * 20


# --- choice ---


def test_the_smallest_form_is_taken() -> None:
    torch.manual_seed(0)
    unstructured = torch.rand(64, 64, 3, 3) * (torch.rand(64, 64, 3, 3) < 0.2)
    very_sparse = torch.rand(64, 64, 3, 3) * (torch.rand(64, 64, 3, 3) < 0.01)
    for tensor, expected in ((unstructured, "bitmask"), (very_sparse, "csr")):
        packed = pack_tensor(tensor)
        assert packed is not None
        assert packed.description["format"] == expected
        sizes = stored_bytes(tensor)
        stored = sum(part.numel() * part.element_size() for part in packed.parts.values())
        assert stored == min(sizes.values()) == sizes[expected]


@pytest.mark.parametrize("tensor", [torch.rand(64, 64) + 1, torch.zeros(8), torch.tensor(0.0), torch.zeros(0, 4)])
def test_dense_and_tiny_tensors_stay_dense(tensor: torch.Tensor) -> None:
    assert pack_tensor(tensor) is None


def test_a_tensor_of_zeros_never_gets_smaller_than_a_reader_accepts() -> None:
    zeros = torch.zeros(4, 2**20)
    packed = pack_tensor(zeros)
    assert packed is not None
    assert packed.description["format"] == "block_bitmask", "csr would be 20 bytes for 16 MiB"
    assert _same_bits(unpack_tensor(packed), zeros)


# --- bit for bit ---


@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=4), density=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    dtype=st.sampled_from(DTYPES), seed=st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_any_mask_of_any_dtype_comes_back_bit_for_bit_in_every_format(
    shape: list[int], density: float, dtype: torch.dtype, seed: int
) -> None:
    """Random bytes are NaNs with payloads, infinities, denormals and -0.0 alike."""
    random = np.random.default_rng(seed)
    size = torch.empty(0, dtype=dtype).element_size()
    count = int(np.prod(shape))
    raw = random.integers(0, 2 if dtype == torch.bool else 256, (count, size), dtype=np.uint8)
    raw[random.random(count) >= density] = 0
    tensor = torch.from_numpy(raw.reshape(-1)).view(dtype).reshape(shape)
    bits = raw.reshape(-1).view(f"u{size}").reshape(shape)
    sizes = stored_bytes(tensor)
    for name in storage_formats:
        form = storage_formats[name]().best(bits)
        if form is None:
            continue
        parts = storage_formats[name]().pack(bits, form)
        assert sum(part.nbytes for part in parts.values()) == form.bytes == sizes[name]
        again = storage_formats[name]().unpack(parts, form, tuple(shape))
        assert again.dtype == bits.dtype
        assert np.array_equal(again, bits)


@pytest.mark.parametrize("dtype", DTYPES)
def test_packing_a_tensor_keeps_its_dtype_and_bits(dtype: torch.dtype) -> None:
    tensor = (torch.rand(64, 32, 3, 3) * 100 * (torch.rand(64, 32, 3, 3) < 0.1)).to(dtype)
    packed = pack_tensor(tensor)
    assert packed is not None
    assert packed.parts["values"].dtype == dtype
    assert _same_bits(unpack_tensor(packed), tensor)


def test_negative_zeros_and_nan_payloads_survive() -> None:
    tensor = torch.zeros(32, 64)
    tensor[0, :4] = torch.tensor([-0.0, float("nan"), float("-inf"), 1e-45])
    tensor.view(torch.int32)[1, 0] = 0x7FC12345
    packed = pack_tensor(tensor)
    assert packed is not None
    assert stored_bytes(tensor)["bitmask"] == bitmask_bytes(32 * 64, 5, 4), "-0.0 is a value, not a zero"
    assert _same_bits(unpack_tensor(packed), tensor)


def test_a_channels_last_tensor_keeps_its_values() -> None:
    tensor = _blocks(32, 16, 3, 4, 0.2).to(memory_format=torch.channels_last)
    packed = pack_tensor(tensor)
    assert packed is not None
    assert torch.equal(unpack_tensor(packed), tensor)


# --- hostile parts ---


def _packed(name: str) -> Packed:
    torch.manual_seed(0)
    tensor = torch.rand(32, 40, 3, 3) * (torch.rand(32, 40, 3, 3) < 0.02)
    if name == "bitmask":
        tensor = torch.rand(32, 40, 3, 3) * (torch.rand(32, 40, 3, 3) < 0.3)
    if name == "block":
        tensor = _blocks(30, 40, 3, 4, 0.2)
    packed = pack_tensor(tensor)
    assert packed is not None
    assert packed.description["format"] == name
    return packed


def _with(packed: Packed, part: str, tensor: torch.Tensor) -> Packed:
    return Packed({**packed.parts, part: tensor}, packed.description)


@pytest.mark.parametrize(
    ("name", "drop"),
    [("bitmask", part) for part in ("mask", "values")]
    + [(name, part) for name in ("csr", "block") for part in ("rows", "columns", "values")],
)
def test_a_missing_or_shortened_part_is_refused(name: str, drop: str) -> None:
    packed = _packed(name)
    parts = {key: value for key, value in packed.parts.items() if key != drop}
    with pytest.raises(ArtifactError, match=f"'{drop}' is missing"):
        unpack_tensor(Packed(parts, packed.description))
    with pytest.raises(ArtifactError):
        unpack_tensor(_with(packed, drop, packed.parts[drop][:-1]))
    with pytest.raises(ArtifactError):
        unpack_tensor(_with(packed, drop, packed.parts[drop][None]))


@pytest.mark.parametrize("name", ["csr", "block"])
def test_columns_out_of_range_or_order_are_refused(name: str) -> None:
    packed = _packed(name)
    columns = packed.parts["columns"]
    high = columns.clone()
    high[0] = 60_000
    with pytest.raises(ArtifactError, match="names column 60000"):
        unpack_tensor(_with(packed, "columns", high))
    twice = columns.clone()
    twice[1] = twice[0]
    with pytest.raises(ArtifactError, match="do not climb inside a row"):
        unpack_tensor(_with(packed, "columns", twice))
    with pytest.raises(ArtifactError, match="holds int64"):
        unpack_tensor(_with(packed, "columns", columns.to(torch.int64)))


@pytest.mark.parametrize("name", ["csr", "block"])
def test_row_pointers_that_do_not_climb_are_refused(name: str) -> None:
    packed = _packed(name)
    rows = packed.parts["rows"].to(torch.int64)
    rows[1], rows[2] = rows[2].clone(), rows[1].clone()
    with pytest.raises(ArtifactError, match="row pointers do not climb"):
        unpack_tensor(_with(packed, "rows", rows.to(torch.uint32)))


def test_a_mask_with_another_count_is_refused() -> None:
    packed = _packed("bitmask")
    mask = packed.parts["mask"].clone()
    mask[0] ^= 1
    with pytest.raises(ArtifactError, match="its mask keeps"):
        unpack_tensor(_with(packed, "mask", mask))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "zip"}, {"format": None}, {"shape": [-1, 4]}, {"shape": "huge"}, {"shape": [True, 4]},
        {"shape": [0, 4]}, {"shape": [2**39, 2**39]}, {"shape": [1] * 40}, {"shape": [32, 40, 3, 4]},
        {"n": 0}, {"n": 10**9}, {"n": "4"}, {"span": "universe"}, {"shape": [30]},
    ],
)  # fmt: skip
def test_a_description_that_lies_is_refused(change: dict[str, object]) -> None:
    packed = _packed("block")
    with pytest.raises(ArtifactError):
        unpack_tensor(Packed(packed.parts, {**packed.description, **change}))


def test_a_memory_bomb_is_refused_before_memory_is_taken() -> None:
    parts = {
        "rows": torch.zeros(5, dtype=torch.uint32),
        "columns": torch.zeros(0, dtype=torch.uint32),
        "values": torch.zeros(0),
    }
    with pytest.raises(ArtifactError, match="20 stored bytes claim to unfold"):
        unpack_tensor(Packed(parts, {"format": "csr", "shape": [4, 2**38]}))
