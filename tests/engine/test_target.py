"""Which instruction set is chosen, and what is said when there is none."""

import pytest

from secateur.engine import target as module
from secateur.engine.target import cross_target, host_target
from secateur.errors import EngineError

AVX2 = {"avx2", "fma", "sse2"}
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"}


class FakeLLVM:
    def __init__(self, features, cpu="some"):
        self.features, self.cpu = features, cpu

    def get_host_cpu_features(self):
        return dict.fromkeys(sorted(AVX512 | {"neon", "amx-tile"}), False) | dict.fromkeys(self.features, True)

    def get_host_cpu_name(self):
        return self.cpu

    def get_process_triple(self):
        return "x86_64-unknown-linux-gnu"


@pytest.fixture
def processor(monkeypatch):
    def fake(features, machine="x86_64"):
        monkeypatch.setattr(module, "llvm", FakeLLVM(features))
        monkeypatch.setattr(module.platform, "machine", lambda: machine)

    monkeypatch.delenv("SECATEUR_ISA", raising=False)
    return fake


@pytest.mark.parametrize(
    ("features", "machine", "isa", "lanes", "registers"),
    [
        (AVX512, "x86_64", "avx512", 16, 32),
        (AVX2, "x86_64", "avx2", 8, 16),
        (AVX512 - {"avx512dq"}, "x86_64", "avx2", 8, 16),
        (AVX512 - {"avx512vl"}, "x86_64", "avx2", 8, 16),
        ({"neon"}, "aarch64", "neon", 4, 32),
        (set(), "arm64", "neon", 4, 32),
    ],
)
def test_the_best_instruction_set_is_chosen(processor, features, machine, isa, lanes, registers):
    processor(features, machine)
    target = host_target()
    assert (target.isa, target.lanes, target.registers) == (isa, lanes, registers)


def test_both_name_and_every_feature_are_given_to_llvm(processor):
    processor(AVX512)
    target = host_target()
    assert target.cpu == "some"
    assert {"+avx512f", "+fma", "-neon", "-prefer-256-bit"} <= set(target.features.split(","))


def test_restricted_to_avx2_nothing_of_avx512_is_used(processor):
    processor(AVX512)
    target = host_target("avx2")
    assert (target.isa, target.lanes, target.registers) == ("avx2", 8, 16)
    assert not [f for f in target.features.split(",") if f.startswith(("+avx512", "+amx"))]
    assert "+fma" in target.features.split(",")


def test_the_environment_restricts(processor, monkeypatch):
    processor(AVX512)
    monkeypatch.setenv("SECATEUR_ISA", "avx2")
    assert host_target().isa == "avx2"
    assert host_target("avx512").isa == "avx512", "what the caller says counts more"
    monkeypatch.setenv("SECATEUR_ISA", "sse2")
    with pytest.raises(EngineError, match="Unknown instruction set 'sse2'; the engine knows avx512, avx2, neon"):
        host_target()


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ("Features\t: fp asimd bf16 i8mm\nFeatures\t: asimd bf16\n", True),
        ("Features\t: fp asimd bf16\nFeatures\t: fp asimd\n", False),
        ("Features\t: fp asimd svebf16\n", False),
        ("flags\t: avx512_bf16\n", False),
        (None, False),
    ],
    ids=["all", "some", "another", "x86", "unknown"],
)
def test_linux_says_whether_an_aarch64_processor_has_bf16(processor, monkeypatch, tmp_path, listed, found):
    processor({"neon"}, "aarch64")
    file = tmp_path / "cpuinfo"
    if listed is not None:
        file.write_text(f"processor\t: 0\n{listed}")
    monkeypatch.setattr(module, "_PROCESSORS", file)
    assert host_target().has("bf16") == found


def test_an_old_processor_is_refused_in_a_sentence(processor):
    processor({"avx2"})
    with pytest.raises(EngineError, match=r"\(some\) has neither AVX2 with FMA, nor AVX-512, nor NEON"):
        host_target()


def test_what_the_processor_lacks_is_named(processor):
    processor(AVX2)
    with pytest.raises(EngineError, match=r"no avx512bw, avx512dq, avx512f, avx512vl\. It can run avx2"):
        host_target("avx512")


def test_other_systems_are_refused(processor, monkeypatch):
    processor(AVX512)
    monkeypatch.setattr(module.sys, "platform", "win32")
    with pytest.raises(EngineError, match="Linux and macOS, this is win32"):
        host_target()


def test_cache_sizes_are_read_and_have_usual_values_elsewhere(tmp_path, monkeypatch):
    for index, level, kind, size in ((0, 1, "Data", "48K"), (1, 1, "Instruction", "64K"), (2, 2, "Unified", "2048K"),
                                     (3, 3, "Unified", "32M")):  # fmt: skip
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, value in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{value}\n")
    monkeypatch.setattr(module, "_CACHES", tmp_path)
    assert (host_target().l1, host_target().l2) == (48 << 10, 2 << 20)
    (tmp_path / "index0" / "type").unlink()
    assert (host_target().l1, host_target().l2) == (32 << 10, 2 << 20)
    monkeypatch.setattr(module, "_CACHES", tmp_path / "nowhere")
    assert (host_target().l1, host_target().l2) == (32 << 10, 1 << 20)


@pytest.mark.parametrize("isa", ["avx512", "avx2", "neon"])
def test_cross_targets(isa):
    target = cross_target(isa)
    assert target.machine == ("aarch64" if isa == "neon" else "x86_64")
    assert target.triple.startswith(target.machine)
    assert cross_target(isa, "other", l1=1).cpu == "other"
    with pytest.raises(EngineError, match="Unknown instruction set 'sve'"):
        cross_target("sve")
