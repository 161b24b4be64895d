"""The guard is for broken installs; each test imports in a process of its own."""

import subprocess
import sys
import textwrap

import pytest


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_models_and_transforms_work_where_operators_are_missing() -> None:
    out = _run(
        """
        from secateur.zoo.torchvision_guard import import_timm, import_torchvision
        models = import_torchvision("models")
        import torch
        print(models.squeezenet1_1()(torch.zeros(1, 3, 64, 64)).shape, import_timm().__name__)
        """
    )
    assert out.split("\n")[0] == "torch.Size([1, 1000]) timm"


def test_guard_stays_away_when_the_plain_import_works() -> None:
    out = _run(
        """
        import sys, types
        sys.modules["torchvision"] = types.ModuleType("torchvision")
        from secateur.zoo import torchvision_guard
        torchvision_guard.import_torchvision()
        print(len(torchvision_guard._declarations))
        """
    )
    assert out.strip() == "0"


def test_other_failures_of_the_import_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from secateur.zoo import torchvision_guard

    def broken(name: str) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(torchvision_guard.importlib, "import_module", broken)
    with pytest.raises(RuntimeError, match="something else"):
        torchvision_guard.import_torchvision()
