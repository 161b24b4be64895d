"""Tests are named after the rules of passes/release_weights.py."""

import numpy as np

import secateur
from graph_tools import feeds_of, run_model
from quantized_graphs import QdqFile, integer_ops, read
from secateur.graph.quantized import Grid

X = Grid(0.05, 120, "uint8")
SIDES = {"x": (1, 4, 5, 5)}


def weight_only() -> QdqFile:
    file = QdqFile()
    value = file.op("Relu", file.op("Conv", "x", file.weight((6, 4, 3, 3)), kernel_shape=[3, 3]))
    file.op("Conv", value, file.weight((2, 6, 1, 1), None), kernel_shape=[1, 1], out="y")
    return file


def test_rule_1_weights_alone_are_quantized():
    graph = read(weight_only().model(SIDES))
    assert integer_ops(graph) == ["Conv", "Conv"]
    assert list(graph.notes.values()) == ["its input is not quantized with one constant scale"] * 2


def test_rule_2_a_result_that_stays_float():
    file = QdqFile()
    file.op("Softmax", file.between("x", X), axis=1, out="y")
    assert list(read(file.model(SIDES)).notes.values()) == ["its result is not quantized"]


def test_rule_2_an_operator_that_integers_lack():
    file = QdqFile()
    file.between(file.op("Softmax", file.between("x", X), axis=1), X, "y")
    assert list(read(file.model(SIDES)).notes.values()) == ["there is no Softmax on integers"]


def test_reports_show_the_reason():
    model = weight_only().model(SIDES)
    with secateur.compile(model, threads=1) as session:
        report = session.report()
        feeds = feeds_of(read(model))
        assert np.allclose(session.run(feeds)["y"], run_model(model, feeds)[0], atol=1e-3)
    text = " ".join(str(report).split())
    assert "with floats: 2 (Conv_1, Conv_4): its input is not quantized with one constant scale" in text
    assert list(report.to_dict()["floats"]) == ["Conv_1", "Conv_4"]


def test_float_graphs_have_no_notes():
    file = QdqFile()
    file.op("Conv", "x", file.constant(np.ones((2, 4, 1, 1), np.float32)), kernel_shape=[1, 1], out="y")
    assert not read(file.model(SIDES)).notes
