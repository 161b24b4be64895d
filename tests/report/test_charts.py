"""What the charts show, read back from their drawings."""

from dataclasses import replace
from xml.etree import ElementTree

from secateur.report.charts import MOST_LAYERS, Chart, latency_chart, layers_chart, training_chart
from secateur.report.content import Content, Epoch, Layer


def texts(chart: Chart | None, which: str = "wide") -> list[str]:
    assert chart is not None
    root = ElementTree.fromstring(getattr(chart, which))
    return [element.text or "" for element in root.iter("text")]


def layer(name: str, macs: int, left: int) -> Layer:
    return Layer(name, "conv", (4, 4, 1, 1), 16, 8, macs, left)


def epoch(index: int, top1: float, sparsity: float) -> Epoch:
    return Epoch(index, "01-sparsify", index, 0.1, 1.0, top1, top1, 99.0, 1.0, sparsity, 1.0)


def test_layers_are_named_with_their_gain(content: Content) -> None:
    chart = layers_chart(replace(content, layers=(layer("a", 4_000_000, 1_000_000), layer("b", 2_000_000, 2_000_000))))
    for which in ("wide", "narrow"):
        found = texts(chart, which)
        assert {"a", "b", "4.0×", "MMACs of one image"} <= set(found)
        assert [text for text in found if text.endswith("×")] == ["4.0×"]


def test_only_the_most_expensive_of_many_layers_are_drawn_and_the_caption_says_so(content: Content) -> None:
    many = tuple(layer(f"layer{index}", 1000 + index, 500) for index in range(MOST_LAYERS + 60))
    chart = layers_chart(replace(content, layers=many))
    names = [text for text in texts(chart) if text.startswith("layer")]
    assert names == [f"layer{index}" for index in range(60, MOST_LAYERS + 60)]
    assert chart is not None
    assert f"the {MOST_LAYERS} most expensive of {MOST_LAYERS + 60} layers" in chart.caption


def test_a_network_without_zeros_has_no_layer_chart(content: Content) -> None:
    assert layers_chart(replace(content, layers=(layer("a", 100, 100),))) is None
    assert layers_chart(replace(content, layers=())) is None


def test_a_layer_without_weights_left_says_so(content: Content) -> None:
    assert "all zero" in texts(layers_chart(replace(content, layers=(layer("a", 100, 0),))))


def test_a_long_name_keeps_its_end(content: Content) -> None:
    name = "features.denseblock3.denselayer24.conv2"
    found = texts(layers_chart(replace(content, layers=(layer(name, 100, 50),))))
    assert any(text.startswith("…") and name.endswith(text[1:]) and len(text) == 26 for text in found)


def test_latency_has_a_panel_for_each_setting_and_bars_with_their_times(content: Content) -> None:
    found = texts(latency_chart(content))
    assert {"Batch 1, 1 thread", "Batch 1, 2 threads", "ONNX Runtime", "5.94", "0.383 (3.42×)"} <= set(found)
    assert "expected by MACs" in found


def test_latency_without_a_census_promises_nothing(content: Content) -> None:
    rows = tuple(replace(row, expected_macs=None) for row in content.latencies)
    chart = latency_chart(replace(content, latencies=rows))
    assert "expected by MACs" not in texts(chart)
    assert chart is not None
    assert "promise" not in chart.caption


def test_no_latency_chart_without_both_networks(content: Content) -> None:
    rows = tuple(replace(row, dense=None) for row in content.latencies)
    assert latency_chart(replace(content, latencies=rows)) is None


def test_training_shows_sparsity_only_where_there_is_some(content: Content) -> None:
    sparse = training_chart(replace(content, epochs=(epoch(1, 90.0, 0.4), epoch(2, 91.0, 0.8))))
    assert {"Sparsity, % of conv and linear weights", "80.0 %"} <= set(texts(sparse))
    dense = training_chart(replace(content, epochs=(epoch(1, 90.0, 0.0), epoch(2, 91.0, 0.0))))
    assert "Sparsity, % of conv and linear weights" not in texts(dense)


def test_one_epoch_is_no_curve(content: Content) -> None:
    assert training_chart(replace(content, epochs=(epoch(1, 90.0, 0.0),))) is None
