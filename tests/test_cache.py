"""Entries come back bit for bit or not at all."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.cache import Cache, digest_of, key_of
from secateur.errors import DiskError

ARRAYS = {
    "matrix": np.arange(12, dtype=np.float64).reshape(3, 4),
    "mask": np.array([True, False]),
    "none": np.zeros((0, 3)),
    "one": np.array(2.0),
}


def test_an_entry_comes_back(tmp_path):
    cache, key = Cache(tmp_path / "deep" / "folder"), key_of({"a": 1})
    assert cache.get(key) is None and key not in cache
    put = cache.put(key, {"columns": 7, "levels": [0.5, None]}, ARRAYS)
    got = cache.get(key)
    for entry in (put, got):
        assert entry.value == {"columns": 7, "levels": [0.5, None]}
        assert sorted(entry.arrays) == sorted(ARRAYS)
        for name, array in ARRAYS.items():
            assert entry.arrays[name].shape == array.shape
            assert entry.arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(entry.arrays[name], array)
    assert [path.name for path in cache.folder.iterdir()] == [f"{key}.safetensors"]


def test_a_value_without_arrays_comes_back(tmp_path):
    cache = Cache(tmp_path)
    cache.put(key_of(1), ["ä", 0.1])
    assert cache.get(key_of(1)).value == ["ä", 0.1]


def test_a_view_is_kept_as_it_reads(tmp_path):
    cache = Cache(tmp_path)
    cache.put(key_of(1), None, {"t": ARRAYS["matrix"].T})
    np.testing.assert_array_equal(cache.get(key_of(1)).arrays["t"], ARRAYS["matrix"].T)


def test_equal_content_is_equal_byte_for_byte(tmp_path):
    for name in ("a", "b"):
        Cache(tmp_path / name).put(key_of(1), {"x": 1, "y": 2}, ARRAYS)
    assert Cache(tmp_path / "a").path(key_of(1)).read_bytes() == Cache(tmp_path / "b").path(key_of(1)).read_bytes()


def test_every_damaged_byte_is_found(tmp_path, capfd):
    cache, key = Cache(tmp_path), key_of("damage")
    cache.put(key, {"columns": 7}, {"m": np.array([1.0, 2.0], np.float32)})
    whole = cache.path(key).read_bytes()
    for position in range(len(whole)):
        cache.path(key).write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        entry = cache.get(key)
        # A space of the header's padding is the only byte that does not matter.
        assert entry is None or (entry.value == {"columns": 7} and whole[position] == 0x20)
    cache.path(key).write_bytes(whole)
    assert cache.get(key) is not None
    assert "computed again" in capfd.readouterr().err


@pytest.mark.parametrize("content", [b"", b"\xff" * 200, b"{}", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_foreign_file_is_no_entry(tmp_path, content):
    cache = Cache(tmp_path)
    cache.path(key_of(1)).write_bytes(content)
    assert cache.get(key_of(1)) is None
    cache.put(key_of(1), 5)
    assert cache.get(key_of(1)).value == 5


@pytest.mark.parametrize("length", [1, 8, 100, -1, -8])
def test_a_file_that_was_cut_off_is_no_entry(tmp_path, length):
    cache = Cache(tmp_path)
    cache.put(key_of(1), 5, ARRAYS)
    cache.path(key_of(1)).write_bytes(cache.path(key_of(1)).read_bytes()[:length])
    assert cache.get(key_of(1)) is None


def test_an_entry_under_the_name_of_another_key_is_refused(tmp_path):
    cache = Cache(tmp_path)
    cache.put(key_of(1), 5)
    cache.path(key_of(1)).rename(cache.path(key_of(2)))
    assert cache.get(key_of(2)) is None


def test_a_folder_in_the_place_of_an_entry_is_a_sentence(tmp_path):
    cache = Cache(tmp_path)
    cache.path(key_of(1)).mkdir()
    assert cache.get(key_of(1)) is None
    with pytest.raises(DiskError, match="cannot be written"):
        cache.put(key_of(1), 5)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_the_key_does_not_depend_on_the_order_of_names(facts):
    assert key_of(facts) == key_of(dict(reversed(list(facts.items()))))


def test_keys_tell_facts_apart():
    facts = [1, 1.5, "1", [1], {"a": 1}, {"a": 2}, {"b": 1}, None, True, [], {}]
    assert len({key_of(fact) for fact in facts}) == len(facts)


@pytest.mark.parametrize("facts", [float("nan"), {"x": float("inf")}, {1, 2}, b"bytes", np.float32(1)])
def test_facts_that_are_not_json_are_refused(facts):
    with pytest.raises((TypeError, ValueError)):
        key_of(facts)


def test_digests_tell_type_and_shape_apart():
    flat = np.zeros(4, np.float32)
    other = [flat.reshape(2, 2), flat.astype(np.int32), np.zeros(3, np.float32), flat + 1]
    assert len({digest_of(array) for array in [flat, *other]}) == 5
    assert digest_of(np.arange(6).reshape(2, 3).T) == digest_of(np.arange(6).reshape(2, 3).T.copy())
    assert len(digest_of(np.float32(3))) == 64  # no axes
    assert len(digest_of(np.zeros((0, 3)))) == 64


def test_it_loads_no_torch():
    script = "import sys, secateur.cache; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
