"""The section on sparsity after training: what the stage recorded, word for word and number for number."""

import pytest

from secateur.errors import ArtifactError
from secateur.report.after_training import after_training, choices_table, leads, steps_table
from secateur.report.fields import Fields

RESULT = {
    "calibration": {"data": "cifar10", "split": "train", "of": 50000, "seed": 3, "indices": list(range(1024))},
    "levels": {
        "format": 1,
        "target": {"kind": "macs", "value": 0.5, "relative": True, "base": "conv_linear"},
        "errors": "loss",
        "solver": "dynamic",
        "layers": [
            {"name": "conv1", "option": 0, "pattern": "", "level": 0.0, "zeros": 0, "weights": 432, "error": 0.0,
             "cost": 400.0, "dense": 400.0, "note": "first convolution"},
            {"name": "fc", "option": 5, "pattern": "1x4", "level": 0.75, "zeros": 480, "weights": 640, "error": 0.01,
             "cost": 100.0, "dense": 600.0, "note": ""},
        ],
        "error": 0.01, "budget": 500.0, "cost": 500.0, "dense": 1000.0, "fixed": 0.0, "measured": None,
    },
    "steps": [
        {"step": "closed form", "distance": 0.5, "kept": True},
        {"step": "norm statistics", "distance": 0.2, "tried": 0.2, "kept": True},
        {"step": "tuning", "distance": 0.2, "tried": 0.4, "kept": False},
    ],
    "budget": {"seconds": 600.0, "spent": 532.0},
}  # fmt: skip


def read(**changes):
    return after_training(Fields(RESULT | changes, "result.json"))


def test_images_time_and_way_are_told():
    first, second = leads(read())
    assert "1,024 of the 50,000 training images of cifar10" in first and "seed 3" in first
    assert "8 min 52" in first.replace("\u00a0", " ") and "10 min" in first.replace("\u00a0", " ")
    assert "dynamic" in second and "divergence" in second


def test_steps_are_told_with_those_undone():
    rows = steps_table(read()).rows
    assert rows == (
        ("closed form", 0.5, None, "yes"),
        ("norm statistics", 0.2, None, "yes"),
        ("tuning", 0.2, 0.4, "no: undone"),
    )


def test_levels_are_told_with_what_is_left():
    table = choices_table(read())
    assert table.rows[0] == ("conv1", "", 432, 0, 0.0, 0.0, 1.0, "first convolution")
    assert table.rows[1] == ("fc", "1x4", 640, 480, 0.75, 0.01, pytest.approx(1 / 6), None)
    assert table.total == ("total", None, 1072, 480, 480 / 1072, None, 0.5, None)
    assert "macs" in table.columns[6].heading


def test_a_list_of_levels_has_no_choice_and_magnitude_no_steps():
    found = read(levels=None, steps=[], budget=None)
    assert choices_table(found) is None and steps_table(found) is None and len(leads(found)) == 1
    assert after_training(None) is None


def test_damage_is_told():
    with pytest.raises(ArtifactError, match="'cost' is missing"):
        read(levels=RESULT["levels"] | {"cost": None})
    with pytest.raises(ArtifactError, match="not a finite number"):
        read(steps=[{"step": "tuning", "distance": "much", "kept": True}])
