"""Names of our own networks. A network family is one file that registers what it has here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from secateur.registry import Registry
from secateur.zoo.preprocessing import Preprocessing


@dataclass(frozen=True)
class Renaming:
    """Another naming of the same tensors, as some published file has it.

    marker   a tensor name that only such files have
    rename   file's tensor name -> ours
    implies  options that every file of this naming was trained with, unless its metadata says otherwise
    """

    marker: str
    rename: Callable[[str], str]
    implies: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OwnModel:
    """One of our own networks.

    build          called as build(classes=..., **options)
    about          a few words for `secateur models`
    classes        default number of classes
    preprocessing  of freshly initialised weights; a weights file may say otherwise
    options        name -> default of what `build` takes beside the classes
    renamings      other names under which published files hold its tensors
    """

    build: Callable[..., nn.Module]
    about: str
    classes: int
    preprocessing: Preprocessing
    options: dict[str, Any] = field(default_factory=dict)
    renamings: tuple[Renaming, ...] = ()


own_models: Registry[OwnModel] = Registry("model")


def renamings_of(name: str) -> tuple[Renaming, ...]:
    """Other namings of the tensors of the network called `name`; none for networks that are not our own."""
    return own_models[name].renamings if name in own_models else ()
