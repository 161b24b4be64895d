"""The processors that kernels are written for.

Feature detection decides which templates are used; the processor's name only affects instruction scheduling
(ENGINE.md 4.1.4: hypervisors mask features that a name implies, so both are always given to LLVM).
"""

import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from secateur.engine.llvm import llvm
from secateur.errors import EngineError

# Best first: what each instruction set needs from the processor, and its registers.
NEEDS: Mapping[str, frozenset[str]] = {
    "avx512": frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"}),
    "avx2": frozenset({"avx2", "fma"}),
    "neon": frozenset({"neon"}),
}
_LANES = {"avx512": 16, "avx2": 8, "neon": 4}
_REGISTERS = {"avx512": 32, "avx2": 16, "neon": 32}
_CROSS = {
    "avx512": ("x86_64-unknown-linux-gnu", "icelake-server"),
    "avx2": ("x86_64-unknown-linux-gnu", "haswell"),
    "neon": ("aarch64-unknown-linux-gnu", "neoverse-n1"),
}
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_PROCESSORS = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Target:
    """A processor as code generation sees it.

    isa        avx512, avx2 or neon
    triple     LLVM's name of the platform
    cpu        LLVM's name of the processor
    features   LLVM's feature string, "+avx512f,-sse4a,..."
    lanes      float32 values in a vector register
    registers  vector registers
    l1, l2     data cache of one core in bytes
    """

    isa: str
    triple: str
    cpu: str
    features: str
    lanes: int
    registers: int
    l1: int = 32 << 10
    l2: int = 1 << 20

    def has(self, feature: str) -> bool:
        """Whether the processor has a feature, by LLVM's name."""
        return f"+{feature}" in self.features.split(",")

    @property
    def machine(self) -> str:
        """x86_64 or aarch64."""
        return "aarch64" if self.isa == "neon" else "x86_64"


def host_target(isa: str | None = None) -> Target:
    """This machine.

    isa       avx512, avx2 or neon; the best that the processor has when not given. The environment variable
              SECATEUR_ISA stands in for it
    raises    EngineError  when the processor lacks it, or has none of them
    """
    if sys.platform not in ("linux", "darwin"):
        raise EngineError(f"The engine runs on Linux and macOS, this is {sys.platform}.")
    found = {name for name, present in llvm.get_host_cpu_features().items() if present}
    if platform.machine().lower() in ("aarch64", "arm64"):
        found.add("neon")  # part of the architecture; macOS reports no feature list
        if sys.platform == "darwin":
            found.add("dotprod")  # all of Apple's have it
        found |= _bf16_of_linux()
    usable = [name for name, needs in NEEDS.items() if needs <= found]
    wanted = isa or os.environ.get("SECATEUR_ISA") or (usable[0] if usable else "")
    if not usable:
        raise EngineError(
            f"The processor ({llvm.get_host_cpu_name()}) has neither AVX2 with FMA, nor AVX-512, nor NEON, "
            "for which the engine's kernels are written."
        )
    _check_known(wanted)
    if wanted not in usable:
        missing = ", ".join(sorted(NEEDS[wanted] - found))
        raise EngineError(f"This processor cannot run {wanted}: it has no {missing}. It can run {', '.join(usable)}.")
    beyond = {name: True for name in ("dotprod", "bf16") if name in found}
    features: dict[str, bool] = dict(llvm.get_host_cpu_features()) | beyond
    if wanted == "avx2":
        features.update({name: False for name in features if name.startswith(("avx512", "avx10", "amx"))})
    return _target(wanted, llvm.get_process_triple(), llvm.get_host_cpu_name(), features, *_cache_sizes())


def cross_target(
    isa: str, cpu: str | None = None, l1: int = 32 << 10, l2: int = 1 << 20, more: Iterable[str] = ()
) -> Target:
    """A Linux machine that need not be this one, to emit code for. raises EngineError for an unknown `isa`.

    more    features that it has beside those that the instruction set needs
    """
    _check_known(isa)
    triple, usual = _CROSS[isa]
    return _target(isa, triple, cpu or usual, dict.fromkeys(sorted({*NEEDS[isa], *more}), True), l1, l2)


def _target(isa: str, triple: str, cpu: str, features: Mapping[str, bool], l1: int, l2: int) -> Target:
    # Tuning for several Intel processors splits 512-bit vectors in two unless told otherwise.
    written = dict(features) | ({"prefer-256-bit": False} if isa == "avx512" else {})
    text = ",".join(("+" if present else "-") + name for name, present in sorted(written.items()))
    return Target(isa, triple, cpu, text, _LANES[isa], _REGISTERS[isa], l1, l2)


def _check_known(isa: str) -> None:
    if isa not in NEEDS:
        raise EngineError(f"Unknown instruction set '{isa}'; the engine knows {', '.join(NEEDS)}.")


def _bf16_of_linux() -> set[str]:
    """Whether an AArch64 processor multiplies bf16 numbers, of which LLVM says nothing."""
    try:
        lines = _PROCESSORS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    listed = [set(line.partition(":")[2].split()) for line in lines if line.startswith("Features")]
    # Of processors of two kinds, both must have it.
    return {"bf16"} if listed and all("bf16" in features for features in listed) else set()


def _cache_sizes() -> tuple[int, int]:
    """Bytes of the first and second level data cache; usual sizes where the system does not tell."""
    sizes = {1: Target.l1, 2: Target.l2}
    for index in sorted(_CACHES.glob("index*")):
        try:
            level, kind, size = (
                (index / name).read_text(encoding="ascii").strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue  # some hypervisors and containers hide single files
        if kind != "Instruction" and int(level) in sizes and size.endswith("K"):
            sizes[int(level)] = int(size.removesuffix("K")) << 10
    return sizes[1], sizes[2]
