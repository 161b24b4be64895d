"""Secateur makes vision networks small and measurably fast.

    import secateur

    result = secateur.compress("resnet20_cifar10", "digits", pattern="1x4-fine", sparsity=0.8, out="run")
    session = secateur.compile("run")  # or any ONNX file
    outputs = session.run(images)

The verbs are loaded when they are first used: `import secateur` itself needs neither torch nor time.
"""

import importlib
from importlib import metadata
from typing import Any

from secateur.errors import SecateurError

__version__ = metadata.version("secateur")

# name -> module that has it
_LAZY = {
    **dict.fromkeys(
        (
            "census",
            "compress",
            "evaluate",
            "export_onnx",
            "plan",
            "prune_channels",
            "prune_weights",
            "quantize",
            "quantize_",
            "frontier",
            "sensitivity",
            "sparsify",
            "structure",
            "thin",
            "write_report",
        ),
        "api",
    ),
    **dict.fromkeys(("load_recipe", "Recipe"), "recipe"),
    **dict.fromkeys(("data", "model", "models", "Preprocessing", "ImageData"), "zoo"),
    **dict.fromkeys(("sparsify_", "fold_masks_"), "sparsity"),
    **dict.fromkeys(("channel_groups", "plan_channels", "mask_channels_", "remove_channels_"), "channels"),
    "distill": "training",
    **dict.fromkeys(("benchmark", "compile"), "inference"),
    "InferenceSession": "engine.adapter",
    "Session": "engine.session",
}

__all__ = ["SecateurError", "__version__", *sorted(_LAZY)]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'secateur' has no attribute '{name}'")
    return getattr(importlib.import_module(f"secateur.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
