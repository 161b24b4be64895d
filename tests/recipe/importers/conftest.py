"""Small files of other tools, and the published ones where they are at hand."""

import os
from pathlib import Path

import pytest

from secateur.recipe.importers import Imported, import_text

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def schedules() -> Path:
    """The folder with published schedules; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("SECATEUR_SHARED", REPOSITORY.parent / "shared")) / "schedules"
    if not folder.is_dir():
        pytest.skip("needs the published schedules (set SECATEUR_SHARED to the folder that holds schedules/)")
    return folder


def said(imported: Imported) -> str:
    return "\n".join(map(str, imported.notes))


def stages_of(imported: Imported, kind: str | None = None) -> list:
    return [stage for stage in imported.recipe.stages if kind is None or stage.stage == kind]


class Tools:
    """What tests of importers do most."""

    said = staticmethod(said)
    stages = staticmethod(stages_of)

    @staticmethod
    def read(text: str, model: str | None = "resnet20b_cifar10", data: str | None = "cifar10") -> Imported:
        return import_text(text, "f.yaml", model, data, "w.pth")


@pytest.fixture(scope="session")
def tools() -> type[Tools]:
    return Tools
