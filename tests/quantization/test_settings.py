"""Settings of single layers: which override meets which node, and what it changes."""

import pytest

from float_networks import residual
from secateur.errors import QuantizationError
from secateur.quantization.numbers import Numbers
from secateur.quantization.prepare import prepared
from secateur.quantization.settings import Override, Settings, chooser

PLAIN = prepared(residual())
FOUR = Numbers(4, signed=True, symmetric=True)


@pytest.mark.parametrize(
    ("match", "met"),
    [
        ("conv1", {"conv1"}),
        ("conv*", {"conv1", "conv2"}),
        ("conv", {"conv1", "conv2"}),
        ("linear", {"classifier"}),
        ("first", {"conv1"}),
        ("last", {"classifier"}),
        ("add", {"sum"}),
        ("input", {""}),
        ("*", {"conv1", "conv2", "classifier", "sum", ""}),
    ],
)
def test_whom_an_override_meets(match, met):
    choose = chooser(PLAIN, Settings(), [Override(match, weights=FOUR)])
    nodes = {"conv1": "conv", "conv2": "conv", "classifier": "linear", "sum": "add", "": "input"}
    assert {name for name, kind in nodes.items() if choose(name, kind).weights == FOUR} == met


def test_only_what_is_said_changes():
    settings = Settings("percentile", {"percent": 99.9}, per_channel=False)
    choose = chooser(PLAIN, settings, [Override("conv1", weights=FOUR)])
    assert choose("conv1", "conv") == Settings("percentile", {"percent": 99.9}, weights=FOUR, per_channel=False)
    assert choose("conv2", "conv") == settings


def test_options_belong_to_their_observer():
    settings = Settings("percentile", {"percent": 99.9})
    choose = chooser(
        PLAIN, settings, [Override("conv1", observer="minmax"), Override("conv2", options={"percent": 90})]
    )
    assert choose("conv1", "conv").options is None
    assert choose("conv2", "conv") == Settings("percentile", {"percent": 90})


def test_later_overrides_win():
    choose = chooser(PLAIN, Settings(), [Override("conv", per_channel=False), Override("conv2", per_channel=True)])
    assert [choose(name, "conv").per_channel for name in ("conv1", "conv2")] == [False, True]


def test_an_override_for_nobody():
    with pytest.raises(QuantizationError, match=r"'layer9\.\*' is the name of no node"):
        chooser(PLAIN, Settings(), [Override("layer9.*")])
