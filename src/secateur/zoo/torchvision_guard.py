"""Import torchvision even where its compiled operators do not fit the installed torch build.

A torchvision whose binary extension cannot be loaded (another torch build, CPU beside CUDA) still registers
shape functions for the operators `nms` and `qnms`, and fails: "operator torchvision::nms does not exist".
Declaring the two first makes models, transforms and data sets work; only calling them would fail, and no
classification network does.

timm imports torchvision too, so that everything that needs either of them imports it through this module.
"""

import importlib
import sys
from types import ModuleType

import torch

from secateur.errors import ModelError

_MISSING = "operator torchvision::nms does not exist"
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

# The declarations live as long as this object does.
_declarations: list[torch.library.Library] = []


def import_torchvision(submodule: str = "") -> ModuleType:
    """torchvision, or `torchvision.<submodule>`; the two operators are declared if the plain import fails.

    raises    ModelError  when torchvision is not installed
    """
    try:
        _import_package()
    except ModuleNotFoundError as error:
        raise ModelError(f"torchvision is not installed ({error}); install secateur[torch].") from error
    return importlib.import_module(f"torchvision.{submodule}" if submodule else "torchvision")


def import_timm(submodule: str = "") -> ModuleType:
    """timm, or `timm.<submodule>`, after torchvision has been made importable. raises ModelError."""
    import_torchvision()
    try:
        return importlib.import_module(f"timm.{submodule}" if submodule else "timm")
    except ModuleNotFoundError as error:
        raise ModelError(f"timm is not installed ({error}); install secateur[torch].") from error


def _import_package() -> None:
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if _MISSING not in str(error):
            raise
        _forget_half_imported()
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(operator + _SIGNATURE)
        _declarations.append(library)
        importlib.import_module("torchvision")


def _forget_half_imported() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
