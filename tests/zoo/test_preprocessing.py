import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import ModelError
from secateur.zoo.preprocessing import Preprocessing, from_timm, from_torchvision

POSITIVE = st.floats(0.01, 2, allow_nan=False)


@given(
    st.integers(1, 512),
    st.tuples(POSITIVE, POSITIVE, POSITIVE),
    st.tuples(POSITIVE, POSITIVE, POSITIVE),
    st.floats(0.1, 1),
    st.sampled_from(["rgb", "bgr"]),
)
def test_survives_json(size: int, mean: tuple, std: tuple, crop: float, channels: str) -> None:
    wanted = Preprocessing((3, size, size), mean, std, "bicubic", crop, channels)
    assert Preprocessing.from_dict(json.loads(json.dumps(wanted.to_dict()))) == wanted


def test_short_forms() -> None:
    short = Preprocessing(input_size=32, mean=0.5, std=0.25)  # type: ignore[arg-type]
    assert short == Preprocessing((3, 32, 32), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_resize_to_is_the_documented_rule() -> None:
    assert Preprocessing().resize_to == 256
    assert Preprocessing(crop_pct=224 / 232).resize_to == 232
    assert Preprocessing(crop_pct=1.0).resize_to == 224


@pytest.mark.parametrize(
    "values",
    [
        {"std": (0.2, 0.0, 0.2)},
        {"mean": (float("nan"),) * 3},
        {"mean": (0.5, 0.5)},
        {"mean": "abc"},
        {"input_size": (2, 32, 32)},
        {"input_size": (3, 0, 32)},
        {"input_size": None},
        {"input_size": (3, 32.5, 32)},
        {"interpolation": "cubic"},
        {"crop_pct": 1.5},
        {"crop_pct": "x"},
        {"channels": "gbr"},
        {"sdt": 3},
    ],
)
def test_impossible_values_are_sentences(values: dict) -> None:
    with pytest.raises(ModelError, match=r"\.$"):
        Preprocessing.from_dict(values)


def test_of_a_torchvision_preset() -> None:
    preset = SimpleNamespace(
        crop_size=[224],
        resize_size=[232],
        mean=[0.1, 0.2, 0.3],
        std=[1, 1, 1],
        interpolation=SimpleNamespace(value="bicubic"),
    )
    found = from_torchvision(preset)
    assert found.input_size == (3, 224, 224) and found.mean == (0.1, 0.2, 0.3)
    assert found.interpolation == "bicubic" and found.resize_to == 232


def test_of_a_timm_config() -> None:
    config = {
        "input_size": (3, 240, 240),
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "pool_size": (7, 7),
    }
    assert from_timm(config) == Preprocessing((3, 240, 240), (0.5,) * 3, (0.5,) * 3, "bicubic", 0.95)
