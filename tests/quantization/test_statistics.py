"""Saved statistics come back, Distiller's files are read, and both stand in for images."""

import numpy as np
import pytest
import yaml

from float_networks import batches, draw, residual
from graph_tools import model_of, node
from secateur.errors import ArtifactError, QuantizationError
from secateur.quantization.calibrate import observe
from secateur.quantization.points import points_of
from secateur.quantization.prepare import prepared
from secateur.quantization.quantize import QuantizationOptions, quantize_model
from secateur.quantization.seen import Seen, Statistics
from secateur.quantization.statistics import load_statistics, rectified, save_statistics, seen_of

FACTS = Statistics(-1.0, 2.0, -0.5, 1.5, 0.1, 0.7, 0.6)
DISTILLER = {name: getattr(FACTS, name) for name in ("min", "max", "avg_min", "avg_max", "mean", "std", "b")}
DISTILLER |= {"shape": "(256, 64, 8, 8)", "total_numel": 100}


@pytest.mark.parametrize("name", ["statistics.json", "statistics.yaml"])
def test_every_number_comes_back(tmp_path, name):
    plain = prepared(residual())
    points = points_of(plain)
    facts = {
        group.values[0]: seen.statistics()
        for group, seen in zip(points.groups, observe(plain, batches(), points), strict=True)
    }
    save_statistics(tmp_path / name, facts)
    assert load_statistics(tmp_path / name, plain) == facts


@pytest.mark.parametrize("observer", ["minmax", "average", "gauss"])
def test_saved_statistics_give_the_same_file(tmp_path, observer):
    options = QuantizationOptions(observer)
    first = quantize_model(residual(), batches(), options)
    save_statistics(tmp_path / "s.yaml", first.statistics)
    again = quantize_model(
        residual(), batches(), options, statistics=load_statistics(tmp_path / "s.yaml", first.float_model)
    )
    assert again.table == first.table
    assert again.model.SerializeToString(deterministic=True) == first.model.SerializeToString(deterministic=True)


def test_histograms_are_not_saved():
    first = quantize_model(residual(), batches())
    with pytest.raises(QuantizationError, match="histogram"):
        quantize_model(residual(), batches(), QuantizationOptions("entropy"), statistics=first.statistics)


def test_files_of_distiller_name_layers(tmp_path):
    plain = prepared(residual())
    (tmp_path / "stats.yaml").write_text(
        yaml.safe_dump({
            "conv1": {"inputs": {0: DISTILLER}, "output": DISTILLER},
            "conv2": {"inputs": {0: DISTILLER}, "output": DISTILLER | {"max": 5.0}},
            "sum": {"inputs": {0: DISTILLER, 1: DISTILLER | {"max": 7.0}}, "output": DISTILLER},
            "module.of.another.network": {"output": DISTILLER},
        })
    )  # fmt: skip
    found = load_statistics(tmp_path / "stats.yaml", plain)
    assert set(found) == {"x", "c1", "r1", "c2", "s", "r2"}
    assert found["x"] == FACTS
    # What a layer gives wins over what the next one says that it gets.
    assert found["c2"].max == 5.0
    assert found["r2"] == rectified(FACTS)


def test_modules_without_weights_are_found(tmp_path):
    nodes = [node("Relu", "x", "r", name="layer1.relu.Relu"), node("Conv", "r w", "y", name="layer1.conv")]
    plain = prepared(model_of(nodes, {"x": ("n", 3, 4, 4)}, {"w": draw(2, 3, 1, 1)}))
    (tmp_path / "stats.yaml").write_text(yaml.safe_dump({"layer1.relu": {"output": DISTILLER}}))
    assert load_statistics(tmp_path / "stats.yaml", plain)["r"] == FACTS


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.5, 2.0), (-3.0, 1.0), (4.0, 0.5)])
def test_behind_a_relu(mean, std):
    x = np.random.default_rng(0).standard_normal(400_000) * std + mean
    y = np.maximum(x, 0)
    seen = Seen()
    seen.add(x[None])
    found = rectified(seen.statistics())
    assert (found.min, found.max) == (pytest.approx(y.min(), rel=1e-6), pytest.approx(y.max(), rel=1e-6))
    assert found.mean == pytest.approx(y.mean(), rel=0.02, abs=2e-4)
    assert found.std == pytest.approx(y.std(), rel=0.02, abs=2e-3)
    assert found.b == pytest.approx(np.abs(y - y.mean()).mean(), rel=0.02, abs=2e-4)


def test_no_spread_behind_a_relu():
    assert rectified(Statistics(-1, -1, -1, -1, -1, 0, 0)) == Statistics(0, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "a: 3", "a: {min: 1}", "a: {min: x, max: 1}", ": :", "a: {output: 3}", "a: &x [*x]", "\xff",
     "a: &a {b: 1}\nc: {<<: [*a]}",
     "a: {min: 2, max: 1, avg_min: 0, avg_max: 0, mean: 0, std: 1, b: 1}",
     "a: {min: .nan, max: 1, avg_min: 0, avg_max: 0, mean: 0, std: 1, b: 1}",
     "other: {output: {min: 0, max: 1, avg_min: 0, avg_max: 1, mean: 0, std: 1, b: 1}}"],
)  # fmt: skip
def test_damaged_files_are_refused(tmp_path, text):
    (tmp_path / "s.yaml").write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError):
        load_statistics(tmp_path / "s.yaml", prepared(residual()))


def test_missing_files_and_values():
    with pytest.raises(ArtifactError, match="no such file"):
        load_statistics("/nowhere/s.yaml", prepared(residual()))
    with pytest.raises(ArtifactError, match="nothing of 'x'"):
        seen_of(points_of(prepared(residual())), {})


def test_values_that_are_only_moved_will_do():
    nodes = [node("Conv", "x w", "c"), node("MaxPool", "c", "m", kernel_shape=[2, 2]), node("Conv", "m w2", "y")]
    points = points_of(
        prepared(model_of(nodes, {"x": ("n", 3, 8, 8)}, {"w": draw(3, 3, 1, 1), "w2": draw(3, 3, 1, 1)}))
    )
    seen = seen_of(points, {"x": FACTS, "m": FACTS, "y": FACTS})
    assert [each.statistics() for each in seen] == [FACTS] * 3
