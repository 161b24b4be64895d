"""What this machine is: the facts without which a time means nothing."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# What kernels choose by; everything else in the flags of a CPU does not decide how fast a convolution is.
FEATURES = (
    "sse4_2", "avx", "fma", "f16c", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    "neon", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip

PACKAGES = (
    "secateur", "numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "openvino", "torch", "torchvision",
    "timm", "safetensors", "llvmlite", "ai-edge-litert", "ray",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """CPU, memory, system and installed packages.

    physical_cores    cores of the machine; `cpus` is how many logical ones this process may use
    governor          of the clock rate, None where the system does not say
    load_average      of the last minute, None where there is none
    packages          version by name; what is not installed is left out
    """

    cpu: str
    architecture: str
    features: tuple[str, ...]
    cpus: int
    physical_cores: int | None
    memory_bytes: int | None
    governor: str | None
    load_average: float | None
    system: str
    python: str
    packages: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "features": list(self.features)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Machine":
        return cls(**{**value, "features": tuple(value["features"])})

    def __str__(self) -> str:
        memory = f"{self.memory_bytes / 2**30:.1f} GiB" if self.memory_bytes else "unknown"
        load = "unknown" if self.load_average is None else f"{self.load_average:.2f}"
        return "\n".join(
            (
                f"CPU        {self.cpu} ({self.architecture})",
                f"features   {' '.join(self.features) or 'none known'}",
                f"threads    {self.cpus} usable, {self.physical_cores or 'unknown'} physical cores",
                f"memory     {memory}",
                f"clock      governor {self.governor or 'unknown'}, load average {load}",
                f"system     {self.system}, Python {self.python}",
                f"packages   {', '.join(f'{name} {version}' for name, version in self.packages.items())}",
            )
        )


def machine() -> Machine:
    """The machine this process runs on, as it is now."""
    information = _cpu_information()
    return Machine(
        cpu=_cpu_name(information),
        architecture=platform.machine(),
        features=_features(information),
        cpus=usable_cpus(),
        physical_cores=_physical_cores(information),
        memory_bytes=_memory_bytes(),
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages=_packages(),
    )


def usable_cpus() -> int:
    """Logical CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _cpu_information() -> list[dict[str, str]]:
    """One dictionary per logical CPU, from /proc/cpuinfo; empty where there is none."""
    blocks = (_read("/proc/cpuinfo") or "").split("\n\n")
    return [_fields(block) for block in blocks if block.strip()]


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines() if ":" in line)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _sysctl(name: str) -> str | None:
    if platform.system() != "Darwin":
        return None
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _cpu_name(information: list[dict[str, str]]) -> str:
    first = information[0] if information else {}
    name = first.get("model name") or first.get("cpu model") or first.get("hardware")
    return name or _sysctl("machdep.cpu.brand_string") or platform.processor() or "unknown"


def _features(information: list[dict[str, str]]) -> tuple[str, ...]:
    first = information[0] if information else {}
    flags = set((first.get("flags") or first.get("features") or "").lower().split())
    flags |= set((_sysctl("machdep.cpu.features") or "").lower().replace(".", "_").split())
    flags |= set((_sysctl("machdep.cpu.leaf7_features") or "").lower().split())
    # 64-bit ARM always has NEON; Linux calls it asimd.
    if "asimd" in flags or platform.machine().lower() in ("arm64", "aarch64"):
        flags.add("neon")
    return tuple(feature for feature in FEATURES if feature in flags)


def _physical_cores(information: list[dict[str, str]]) -> int | None:
    cores = {(cpu.get("physical id"), cpu["core id"]) for cpu in information if "core id" in cpu}
    if cores:
        return len(cores)
    counted = _sysctl("hw.physicalcpu")
    return int(counted) if counted and counted.isdigit() else None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _packages() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
