"""What this machine has, and what is missing for which feature."""

import importlib.metadata
import shutil
from dataclasses import dataclass

from secateur.engine.object_cache import default_cache
from secateur.engine.target import host_target
from secateur.errors import EngineError
from secateur.measure.machine import Machine, machine
from secateur.measure.runtime import runtimes

# feature -> (what it is for, packages that it needs, the extra that installs them)
FEATURES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "compress": (
        "train, prune, distil and export torch models",
        ("torch", "torchvision", "timm", "onnxscript", "scikit-learn"),
        "torch",
    ),
    "bench": ("time ONNX models side by side", ("onnxruntime",), ""),
    "openvino": ("OpenVINO as a runtime of the benchmark", ("openvino",), "bench"),
    "litert": ("LiteRT as a runtime of the benchmark, for .tflite files", ("ai-edge-litert",), "bench"),
    "search": ("levels and widths found by DDPG", ("torch", "stable-baselines3", "gymnasium"), "search"),
    "tensorboard": ("training logs for TensorBoard", ("tensorboard",), "torch"),
}


@dataclass(frozen=True)
class Feature:
    """One feature; `missing` names the packages that it lacks, `remedy` says how to get them."""

    name: str
    purpose: str
    missing: tuple[str, ...]
    remedy: str

    @property
    def ready(self) -> bool:
        return not self.missing


@dataclass(frozen=True)
class Examination:
    """What `secateur doctor` found; printed, it is its answer."""

    machine: Machine
    features: tuple[Feature, ...]
    engine: tuple[tuple[str, str], ...]  # what, how it stands
    runtimes: tuple[tuple[str, str, str], ...]  # name, version or what is missing, what it makes of zeros

    def __str__(self) -> str:
        lines = [str(self.machine), "", "features"]
        for feature in self.features:
            state = "ready" if feature.ready else f"missing {', '.join(feature.missing)}: {feature.remedy}"
            lines.append(f"  {feature.name:<14} {feature.purpose}: {state}")
        lines += ["", "engine"]
        lines += [f"  {name:<14} {state}" for name, state in self.engine]
        lines += ["", "runtimes"]
        lines += [f"  {name:<14} {state}; uses zeros: {zeros}" for name, state, zeros in self.runtimes]
        return "\n".join(lines)


def examine() -> Examination:
    """Look at this machine, its packages and the registered runtimes."""
    features = [_feature(name, *entry) for name, entry in FEATURES.items()]
    compiler = any(map(shutil.which, ("c++", "g++", "clang++")))
    features.append(
        Feature(
            "torch.compile",
            "torch.compile as a runtime of the benchmark",
            tuple(_absent(("torch",))) + (() if compiler else ("a C++ compiler",)),
            "install torch and g++ or clang++",
        )
    )
    return Examination(machine(), tuple(features), _engine(), tuple(_runtime(name) for name in runtimes))


def _engine() -> tuple[tuple[str, str], ...]:
    """The instruction set that kernels are compiled for, and whether they are kept for the next process."""
    try:
        target = host_target()
    except EngineError as error:
        return (("kernels", f"none: {error}"),)
    cache = default_cache()
    folder = cache.beside("")
    kept = f"off: {cache.off}; kernels are compiled anew in every process" if folder is None else f"usable: {folder}"
    return (
        ("kernels", f"{target.isa}, {target.lanes} float32 values a vector, LLVM knows the CPU as {target.cpu}"),
        ("data caches", f"L1 {target.l1 >> 10} KiB, L2 {target.l2 >> 10} KiB of one core"),
        ("kernel cache", kept),
    )


def _feature(name: str, purpose: str, packages: tuple[str, ...], extra: str) -> Feature:
    remedy = f'pip install "secateur[{extra}]"' if extra else f"pip install {' '.join(packages)}"
    return Feature(name, purpose, tuple(_absent(packages)), remedy)


def _absent(packages: tuple[str, ...]) -> list[str]:
    absent = []
    for package in packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            absent.append(package)
    return absent


def _runtime(name: str) -> tuple[str, str, str]:
    runtime = runtimes[name]()
    reason = runtime.available()
    return name, reason or f"version {runtime.version()}", runtime.uses_zeros
