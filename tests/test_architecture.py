"""Imports go downward only, and the rooms that must run without torch never name it (docs/architecture.md)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import secateur

SOURCE = Path(secateur.__file__).parent
FLOORS = {
    "cli": 7,
    "api": 6,
    "study": 5, "report": 5, "inference": 5,
    "pipeline": 4,
    "quantization": 3,
    "training": 2, "posttraining": 2, "search": 2, "channels": 2, "export": 2, "measure": 2,
    "sparsity": 1, "zoo": 1, "engine": 1,
    "recipe": 0, "graph": 0,
}  # fmt: skip
GROUND = {"errors", "files", "registry", "progress", "cache"}
WITHOUT_TORCH = ("graph", "engine", "measure", "recipe")
TORCH = {"torch", "torchvision", "timm", "torch_pruning", "onnxscript"}


def rooms():
    return sorted({room_of(path) for path in SOURCE.rglob("*.py")} - {"__init__", "__main__"})


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path: Path, package: Path = SOURCE):
    """Every module that a file imports, at whatever depth of the code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            if node.module == "secateur":
                yield from (f"secateur.{alias.name}" for alias in node.names)


def upward_imports(path: Path, room: str):
    for module in imports_of(path):
        parts = module.split(".")
        if parts[0] != "secateur" or len(parts) == 1:
            continue
        other = parts[1]
        if other in GROUND or other == room:
            continue
        if room in GROUND or FLOORS[other] >= FLOORS[room]:
            yield f"{path.relative_to(SOURCE)} imports {module}"


def test_every_room_has_a_floor():
    assert set(rooms()) <= set(FLOORS) | GROUND


@pytest.mark.parametrize("room", rooms())
def test_imports_go_downward(room):
    files = [path for path in SOURCE.rglob("*.py") if room_of(path) == room]
    assert [fault for path in files for fault in upward_imports(path, room)] == []


def test_an_upward_import_is_found(tmp_path):
    file = SOURCE / "graph" / "example.py"
    tree = tmp_path / "example.py"
    tree.write_text("def late():\n    from secateur.report import write_report\n")
    assert [m for m in imports_of(tree) if m.startswith("secateur")] == ["secateur.report"]
    assert FLOORS["report"] > FLOORS[room_of(file)]


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_room_never_names_torch(room):
    files = [path for path in SOURCE.rglob("*.py") if room_of(path) == room]
    named = [(path.name, m) for path in files for m in imports_of(path) if m.split(".")[0] in TORCH]
    assert named == []


@pytest.mark.parametrize("room", [r for r in rooms() if r in WITHOUT_TORCH] + ["cli", "inference"])
def test_room_is_imported_without_torch(room):
    script = f"import sys, secateur.{room}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_nothing_is_pickled():
    """The one name allowed is the error that torch.load raises for a file with code in it."""
    uses = [
        (path.name, ast.unparse(node))
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"pickle", "cloudpickle", "dill", "joblib"}
    ]
    assert {use for _, use in uses} <= {"pickle.UnpicklingError"}


def test_torch_load_is_always_weights_only():
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert "weights_only=True" in ast.unparse(node), path
