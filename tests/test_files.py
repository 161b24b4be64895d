"""Files are whole or absent, whatever happens while they are written."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from secateur.errors import ArtifactError, DiskError
from secateur.files import atomic_path, read_json, remove_leftovers, sha256_of, write_json, write_text


def test_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    target = tmp_path / "value.json"
    write_json(target, {"a": 1})
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(target) == {"a": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_full_disk_is_a_sentence_and_keeps_the_old_file(tmp_path):
    target = tmp_path / "value.txt"
    write_text(target, "old")
    sentence = r"value\.txt: cannot be written: No space left on device\."
    with pytest.raises(DiskError, match=sentence), atomic_path(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert target.read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_that_is_full_is_a_disk_error(tmp_path):
    with pytest.raises(DiskError), atomic_path(tmp_path / "x") as temporary:
        temporary.symlink_to("/dev/full")
        with temporary.open("w") as file:
            file.write("x" * 100_000)


def test_parent_that_is_a_file_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot be written"):
        write_text(tmp_path / "file" / "below.txt", "x")


def test_killed_writer_leaves_the_old_file(tmp_path):
    target = tmp_path / "value.txt"
    write_text(target, "old")
    script = textwrap.dedent(f"""
        import os, signal
        from secateur.files import atomic_path
        with atomic_path({str(target)!r}) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [target]


def test_damaged_and_missing_json_are_sentences(tmp_path):
    with pytest.raises(ArtifactError, match="no such file"):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ArtifactError, match="not readable as JSON"):
        read_json(tmp_path / "bad.json")


def test_not_a_number_is_refused(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", float("nan"))


def test_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_published_file_follows_the_umask(tmp_path):
    with atomic_path(tmp_path / "x") as temporary:
        temporary.touch(mode=0o600)
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o666 & ~mask
