"""Reports and profiles: arithmetic by hand, and tables that fit a terminal."""

import json

import pytest

from secateur.engine.choice import Choice
from secateur.engine.facts import LayerFacts
from secateur.engine.profile import LayerTime, Profile
from secateur.engine.report import MemoryReport, Report


def fact(name: str = "layer4.2.conv2", *, density: float = 0.2, reason: str = "", **more: object) -> LayerFacts:
    form = "dense" if reason else "block"
    values = {
        "layer": name,
        "operator": "conv",
        "shape": (2048, 1024, 1, 1),
        "output": (1, 2048, 7, 7),
        "density": density,
        "pattern": f"1x4-fine {100 * (1 - density):.1f} %, fill 0.97",
        "kernel": "f32_block_4x6_avx512",
        "choice": Choice(form, "direct", 16, 12, 512),
        "macs": 1_000_000,
        "work": round(1_000_000 * density),
        "weight_bytes": 10,
        "reason": reason,
    }
    return LayerFacts(**(values | more))  # type: ignore[arg-type]


def report(*layers: LayerFacts, **more: object) -> Report:
    values = {
        "isa": "avx512",
        "threads": 1,
        "batch": 1,
        "layers": layers,
        "others": {"MaxPool": 1},
        "refused": {},
        "memory": MemoryReport(1 << 20, 2 << 20, 0, 0),
    }
    return Report(**(values | more))  # type: ignore[arg-type]


def test_speedups_of_a_layer() -> None:
    row = LayerTime(fact(), seconds=0.001, dense_seconds=0.004)
    assert row.expected == pytest.approx(5.0)
    assert row.achieved == pytest.approx(4.0)
    assert row.gflops == pytest.approx(2 * 200_000 / 0.001 / 1e9)


def test_a_layer_without_weights_promises_no_number() -> None:
    row = LayerTime(fact(density=0.0), seconds=0.001, dense_seconds=None)
    assert row.expected is None and row.achieved is None and row.gflops == 0


def test_the_whole_network_counts_by_multiply_adds() -> None:
    layers = (LayerTime(fact("a", density=0.1), 0.001, 0.004), LayerTime(fact("b", density=1.0), 0.002, 0.002))
    profile = Profile(report(fact("a"), fact("b")), layers, {"MaxPool": 0.001}, 0.004, 0.008)
    assert profile.expected == pytest.approx(2_000_000 / 1_100_000)
    assert profile.achieved == pytest.approx(2.0)
    last = [line for line in str(profile).splitlines() if line.startswith("whole network")]
    assert last and last[0].split()[-2:] == ["1.82x", "2.00x"]
    assert "other: MaxPool" in str(profile)


def test_a_table_fits_120_columns_however_long_the_names() -> None:
    names = [f"/backbone/stages/layer4/layer4.2/block/conv{index}/Conv" for index in range(3)]
    layers = [
        fact(name, reason=f"79.{index} % zeros would gain 2 %: less than the noise") for index, name in enumerate(names)
    ]
    refused = {
        f"/a/very/long/name/of/a/node/{index}": ("GridSample", "the operator has no kernel") for index in range(9)
    }
    made = report(*layers, refused=refused)
    profile = Profile(made, tuple(LayerTime(layer, 0.01234567, 0.1) for layer in layers), {}, 0.05, 0.3)
    for text in (str(made), str(profile)):
        assert max(map(len, text.splitlines())) <= 120
        assert "conv2/Conv" in text, "the end of a name tells layers apart"
    assert "9 GridSample" in str(made) and "and 6 more" in str(made)


def test_reasons_are_said() -> None:
    text = str(report(fact("fc", reason="3 % zeros would gain 1 %: less than the noise")))
    assert "dense although it has zeros: fc: 3 % zeros would gain 1 %" in text
    refused = {"resize": ("Resize", "cubic interpolation has no kernel")}
    assert "in ONNX Runtime: 1 Resize (resize): cubic" in str(report(fact(), refused=refused))
    assert "The whole network runs in ONNX Runtime: it was faster." in str(report(delegated="it was faster"))


def test_whole_names_of_kernels() -> None:
    assert "f32_block_4x6_avx512" in report(fact()).kernels()
    assert "f32_block_4x6_avx512" not in str(report(fact()))


def test_everything_is_json() -> None:
    layers = (LayerTime(fact(candidates=((Choice("dense", "gemm", 8, 3), 0.5),)), 0.001, 0.004),)
    profile = Profile(report(fact()), layers, {"MaxPool": 0.001}, 0.002, 0.005)
    data = json.loads(json.dumps(profile.to_dict()))
    row = data["layers"][0]
    assert (row["format"], row["primitive"], row["expected_speedup"], row["achieved_speedup"]) == (
        "block",
        "direct",
        5,
        4,
    )
    assert row["candidates_ms"] == {"dense 8x3 gemm": 500.0}
    assert data["total_ms"] == pytest.approx(2.0) and data["delegated"] is None
