"""Objects on disk are used only when nobody else can have written them and they are exactly what was asked for."""

import hashlib
import os
import stat
import struct
from pathlib import Path

import pytest

from engine.small_programs import Axpy, RowSums
from secateur.engine.compiler import compile_kernels, compile_text
from secateur.engine.kernel_code import key_of
from secateur.engine.object_cache import ObjectCache, default_cache
from secateur.engine.target import cross_target, host_target

TARGET = host_target()
KEY = key_of(Axpy(), TARGET)
IMAGE = compile_kernels([Axpy()], TARGET)
SYMBOLS = ("test_axpy",)
HEADER = 8 + 4 + 32 + 8 + 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "private" / "kernels"


@pytest.fixture
def cache(folder: Path) -> ObjectCache:
    made = ObjectCache(folder)
    made.put(KEY, IMAGE)
    assert made.get(KEY, SYMBOLS, TARGET) == IMAGE
    return made


def file_of(folder: Path) -> Path:
    return folder / (KEY.hex() + ".o")


def get(cache: ObjectCache) -> bytes | None:
    return cache.get(KEY, SYMBOLS, TARGET)


def packed(image: bytes, key: bytes = KEY, magic: bytes = b"SECATOBJ", abi: int = 1) -> bytes:
    return struct.pack("<8sI32sQ32s", magic, abi, key, len(image), hashlib.sha256(image).digest()) + image


def test_folder_and_files_are_private(cache, folder):
    old = os.umask(0)
    try:
        cache.put(bytes(32), IMAGE)
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 2, "no temporary file stays"


def test_unknown_key(cache):
    assert cache.get(bytes(32), SYMBOLS, TARGET) is None


# The folder


def test_a_folder_that_is_a_link_is_off(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    cache = ObjectCache(folder)
    assert "cannot be opened as a folder" in cache.off
    cache.put(KEY, IMAGE)
    assert get(cache) is None
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o720])
def test_a_folder_that_others_may_write_is_off(cache, folder, mode):
    folder.chmod(mode)
    assert get(cache) is None
    assert "writable by nobody else" in cache.off
    assert "writable by nobody else" in ObjectCache(folder).off


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give a folder away")
def test_a_folder_or_file_of_another_user_is_not_used(cache, folder):
    os.chown(file_of(folder), 12345, -1)
    assert get(cache) is None
    os.chown(file_of(folder), 0, -1)
    assert get(cache) == IMAGE
    os.chown(folder, 12345, -1)
    assert "must belong to this user" in ObjectCache(folder).off
    assert get(cache) is None


def test_a_file_in_place_of_the_folder(folder):
    folder.parent.mkdir()
    folder.write_text("")
    assert "cannot be opened as a folder" in ObjectCache(folder).off


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_refuses_files(cache, folder):
    folder.chmod(0o500)
    cache.put(bytes(32), IMAGE)
    assert "cannot be written" in cache.off


# The files


def test_a_link_in_place_of_a_file(cache, folder, tmp_path):
    real = tmp_path / "object"
    file_of(folder).rename(real)
    file_of(folder).symlink_to(real)
    assert get(cache) is None
    cache.put(KEY, IMAGE)
    assert get(cache) == IMAGE and not file_of(folder).is_symlink()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write(cache, folder, mode):
    file_of(folder).chmod(mode)
    assert get(cache) is None


def test_no_regular_file(cache, folder):
    file_of(folder).unlink()
    os.mkfifo(file_of(folder), 0o600)
    assert get(cache) is None
    file_of(folder).unlink()
    file_of(folder).mkdir(mode=0o700)
    assert get(cache) is None


@pytest.mark.parametrize("size", [0, 1, HEADER - 1, HEADER, HEADER + 1, HEADER + len(IMAGE) - 1])
def test_truncated(cache, folder, size):
    os.truncate(file_of(folder), size)
    assert get(cache) is None


def test_longer_than_it_says(cache, folder):
    file_of(folder).write_bytes(packed(IMAGE) + b"\0")
    assert get(cache) is None


def test_every_flipped_bit_is_seen(cache, folder):
    good = file_of(folder).read_bytes()
    for position in [*range(HEADER), *range(HEADER, len(good), 37)]:
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        file_of(folder).write_bytes(bad)
        assert get(cache) is None, position
    file_of(folder).write_bytes(good)
    assert get(cache) == IMAGE


@pytest.mark.parametrize("change", [{"magic": b"SECATOBX"}, {"abi": 2}, {"key": bytes(32)}])
def test_another_header(cache, folder, change):
    file_of(folder).write_bytes(packed(IMAGE, **change))
    assert get(cache) is None


def ir_object(text: str) -> bytes:
    """An object with undefined symbols, which the compiler itself refuses, comes from the parts below it."""
    from secateur.engine.compiler import _optimised

    with _optimised(f'target triple = "{TARGET.triple}"\n' + text, TARGET) as (machine, module):
        return machine.emit_object(module)


KERNEL = "define void @test_axpy() { ret void }\n"
FOREIGN = {
    "not an object": lambda: b"text" * 100,
    "empty": lambda: b"",
    "another kernel": lambda: compile_kernels([RowSums()], TARGET),
    "one more function": lambda: compile_kernels([Axpy(), RowSums()], TARGET),
    "another processor": lambda: compile_kernels([Axpy()], cross_target("avx2" if TARGET.isa == "neon" else "neon")),
    "a call of system": lambda: ir_object(
        "declare i32 @system(ptr)\ndefine void @test_axpy() { call i32 @system(ptr null)\n ret void }\n"
    ),
    "a weak symbol from elsewhere": lambda: ir_object(
        "@environ = extern_weak global ptr\n"
        "define ptr @test_axpy() { %v = load ptr, ptr @environ\n ret ptr %v }\n"
    ),
    "a constructor": lambda: ir_object(
        KERNEL + "define internal void @first() { store volatile i32 1, ptr null\n ret void }\n"
        "@llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] "
        "[{ i32, ptr, ptr } { i32 1, ptr @first, ptr null }]\n"
    ),
    "a destructor": lambda: ir_object(
        KERNEL + "@llvm.global_dtors = appending global [1 x { i32, ptr, ptr }] "
        "[{ i32, ptr, ptr } { i32 1, ptr @test_axpy, ptr null }]\n"
    ),
    "an indirect function": lambda: ir_object(
        "@test_axpy = ifunc void (), ptr @pick\ndefine internal ptr @pick() { ret ptr null }\n"
    ),
    "a common block": lambda: ir_object(KERNEL + "@test_more = common global i32 0\n"),
}  # fmt: skip


@pytest.mark.parametrize("what", FOREIGN)
def test_an_object_with_a_right_header_must_still_be_the_kernel(cache, folder, what):
    file_of(folder).write_bytes(packed(FOREIGN[what]()))
    assert get(cache) is None


def test_a_plain_object_of_that_symbol_is_taken(cache, folder):
    """The objects above are refused for what their names say, not because all hand-made ones are."""
    image = compile_text(f'target triple = "{TARGET.triple}"\n' + KERNEL, TARGET)
    file_of(folder).write_bytes(packed(image))
    assert get(cache) == image


def test_truncated_objects_with_right_headers(cache, folder):
    for size in range(0, len(IMAGE) - 1, 11):
        file_of(folder).write_bytes(packed(IMAGE[:size]))
        assert get(cache) is None, size


# Size and place


def test_the_oldest_files_go_first(folder):
    cache = ObjectCache(folder, limit=10 * (len(IMAGE) + HEADER))
    keys = [bytes([i]) * 32 for i in range(11)]
    for age, key in enumerate(keys[:10]):
        cache.put(key, IMAGE)
        os.utime(folder / (key.hex() + ".o"), (1000 + age, 1000 + age))
    assert cache.get(keys[0], SYMBOLS, TARGET) == IMAGE  # a use makes it the newest
    cache.put(keys[10], IMAGE)
    left = [key for key in keys if (folder / (key.hex() + ".o")).exists()]
    assert left == [keys[0], *keys[5:]]


def test_huge_objects_are_not_kept(folder):
    cache = ObjectCache(folder)
    cache.put(KEY, bytes(17 << 20))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"SECATEUR_CACHE": "{}/own"}, "own/kernels-v1"),
        ({"XDG_CACHE_HOME": "{}/xdg"}, "xdg/secateur/kernels-v1"),
        ({"XDG_CACHE_HOME": "relative"}, ".cache/secateur/kernels-v1"),
        ({}, ".cache/secateur/kernels-v1"),
    ],
)
def test_where_the_cache_is(tmp_path, monkeypatch, environment, place):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("SECATEUR_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    cache = default_cache()
    assert cache.off == ""
    cache.put(KEY, IMAGE)
    assert file_of(tmp_path / place).exists()


def test_where_the_cache_is_on_a_mac(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.delenv("SECATEUR_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache().off == ""
    assert (tmp_path / "Library/Caches/secateur/kernels-v1").is_dir()


def test_switched_off(monkeypatch):
    monkeypatch.setenv("SECATEUR_CACHE", "off")
    cache = default_cache()
    cache.put(KEY, IMAGE)
    assert cache.off == "switched off" and get(cache) is None


def test_a_cache_holds_no_descriptor_open(tmp_path):
    """Every session makes a cache of its own: a process that opens many would run out of descriptors."""
    folders = tmp_path / "kernels", tmp_path / "missing" / "file"
    (tmp_path / "missing").write_text("no folder")
    highest = os.open(tmp_path, os.O_RDONLY)
    os.close(highest)
    for folder in folders:
        for _ in range(5):
            cache = ObjectCache(folder)
            cache.put(b"k" * 32, b"")
            cache.get(b"k" * 32, ("f",), host_target())
    again = os.open(tmp_path, os.O_RDONLY)
    os.close(again)
    assert again == highest
