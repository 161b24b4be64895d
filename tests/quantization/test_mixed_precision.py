"""Bits by layer: the integer program against all choices, budgets that hold, and searches."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_networks import INT8, images, network, table_of
from secateur.errors import PosttrainingError, QuantizationError
from secateur.quantization.answers import divergence, logits_of, top1_agreement
from secateur.quantization.bit_search import BitDecision, BitProblem, search_bits
from secateur.quantization.mixed_precision import (
    FLOAT,
    Sensitivities,
    choose_bits,
    for_accuracy,
    greedy_bits,
    sensitivities,
    with_bits,
)
from secateur.quantization.qdq import write_qdq
from secateur.quantization.simulate import simulated
from secateur.quantization.table import ScaleTable
from secateur.recipe import Search

IMAGES = images(32, batch=32)


def setting(seed=1):
    model = network(seed)
    return model, table_of(model, IMAGES, INT8)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), *[st.floats(0, 1)] * 3), min_size=1, max_size=4),
    st.floats(2.0, 8.0),
)
def test_the_choice_is_the_best_of_all(rows, average):
    bits = (2, 4, 8)
    errors = {f"w{i}": tuple(sorted(row[1:], reverse=True)) for i, row in enumerate(rows)}
    sizes = {f"w{i}": row[0] for i, row in enumerate(rows)}
    found = choose_bits(Sensitivities(bits, errors, sizes, "noise"), average)
    budget = average * sum(sizes.values()) * (1 + 1e-9)
    best = min(
        sum(errors[name][index] for name, index in zip(errors, indices, strict=True))
        for indices in itertools.product(range(3), repeat=len(rows))
        if sum(bits[index] * sizes[name] for name, index in zip(errors, indices, strict=True)) <= budget
    )
    assert found.error == pytest.approx(best, abs=1e-9)
    assert found.average <= average * (1 + 1e-9)
    assert found.average * sum(sizes.values()) == pytest.approx(sum(found.bits[n] * sizes[n] for n in sizes))


def test_a_budget_below_the_fewest_bits():
    with pytest.raises(PosttrainingError, match="out of reach"):
        choose_bits(Sensitivities((4, 8), {"w": (1.0, 0.0)}, {"w": 3}, "noise"), 3.9)


def test_sensitivities_are_those_of_one_layer_alone():
    model, table = setting()
    facts = sensitivities(model, table, IMAGES, (2, 4, 8, FLOAT))
    assert facts.errors.keys() == table.weights.keys()
    wanted = logits_of(model, IMAGES)
    scale = with_bits(model, table, {"b.weight": 4}).weights["b.weight"]
    assert scale.numbers.bits == 4
    alone = simulated(model, ScaleTable({}, {"b.weight": scale}, {}))
    assert facts.errors["b.weight"][1] == pytest.approx(divergence(wanted, logits_of(alone, IMAGES)))
    assert all(errors[0] > errors[2] >= errors[3] == 0.0 for errors in facts.errors.values())
    assert facts.weights["a.weight"] == 8 * 27
    assert "float" in str(facts)


@pytest.mark.parametrize("measure", ["noise", "loss"])
def test_other_measures(measure):
    model, table = setting()
    wanted = logits_of(model, IMAGES)
    loss = (lambda file: float(np.square(logits_of(file, IMAGES) - wanted).mean())) if measure == "loss" else None
    facts = sensitivities(model, table, IMAGES, (2, 8), measure=measure, loss=loss)
    assert all(few > many >= 0 for few, many in facts.errors.values())


def test_bits_end_in_the_table_and_float_layers_leave_it():
    model, table = setting()
    found = with_bits(model, table, {"a.weight": 3, "b.weight": FLOAT, "d.weight": 16})
    assert {name: scale.numbers.bits for name, scale in found.weights.items()} == {
        "a.weight": 3,
        "d.weight": 16,
        "fc.weight": 8,
    }
    assert "lose least" in found.floats["b"]
    assert np.isfinite(logits_of(write_qdq(model, found), IMAGES)).all()
    with pytest.raises(QuantizationError, match=r"c.weight"):
        with_bits(model, table, {"c.weight": 3})


def test_the_fewest_bits_that_hold_the_score():
    model, table = setting()
    wanted = logits_of(model, IMAGES)

    def score(file):
        return 1 - float(np.square(logits_of(file, IMAGES, optimized=False) - wanted).mean() / np.square(wanted).mean())

    facts = sensitivities(model, table, IMAGES, (2, 3, 4, 6, 8))
    choice, reached = for_accuracy(model, table, facts, score, 0.98)
    assert reached >= 0.98 and 2 < choice.average < 8
    assert reached == pytest.approx(score(write_qdq(model, with_bits(model, table, choice.bits))))
    greedy, score_of_greedy = greedy_bits(model, table, (2, 4, 8), score, 0.98)
    assert score_of_greedy >= 0.98 and greedy.average < 8
    with pytest.raises(QuantizationError, match="below"):
        for_accuracy(model, table, facts, score, 1.0)
    with pytest.raises(QuantizationError, match="below"):
        greedy_bits(model, table, (2, 8), score, 1.0)


@pytest.mark.parametrize("bits", [(), (1, 8), (17,)])
def test_bits_that_cannot_be(bits):
    model, table = setting()
    with pytest.raises(QuantizationError):
        sensitivities(model, table, IMAGES, bits)


LAYERS = (BitDecision("a", (2, 5), 10), BitDecision("b", (3, 2, 2, 5), 60), BitDecision("c", (30,), 30))


@settings(max_examples=25, deadline=None)
@given(st.floats(2, 8), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_every_table_of_the_search_keeps_the_budget(average, actions):
    problem = BitProblem(LAYERS, average)
    shares: list[float] = []
    for action in actions:
        assert problem.state(shares).shape == (problem.width,)
        shares.append(problem.share(shares, action))
    assert all(share in range(2, 9) for share in shares)
    assert sum(layer.weights * bits for layer, bits in zip(LAYERS, shares, strict=True)) <= average * 100 + 1e-6


def test_the_published_rule_by_hand():
    problem = BitProblem(LAYERS, 4.0)
    # 400 in all: 200 beyond two bits each; layer a may have 6 more, layer b what is left over 60, the last the rest.
    assert problem.share([], 1.0) == 8
    assert problem.share([], 0.5) == 5
    assert problem.share([8.0], 1.0) == 2 + (400 - 80 - 2 * 90) // 60
    assert problem.share([8.0, 4.0], 0.0) == min(8, (400 - 80 - 240) // 30)
    np.testing.assert_allclose(problem.state([8.0]), [0, 1, 0, 3 / 30, 2 / 5, 1, 1, 1, 30 / 90])
    assert not problem.state([8.0, 4.0, 2.0]).any()


def test_a_search_at_random_finds_bits_and_goes_on_from_its_folder(tmp_path):
    model, table = setting()
    wanted = logits_of(model, IMAGES)
    asked: list[int] = []

    def score(file):
        asked.append(1)
        return top1_agreement(wanted, logits_of(file, IMAGES))

    plan = Search(learner="random", rollouts=5, warmup=1)
    choice, found = search_bits(model, table, IMAGES, tmp_path, plan, average=4.0, score=score)
    assert choice.average <= 4.0 and len(found.rollouts) == len(asked) == 5
    assert found.best.accuracy == max(row.accuracy for row in found.rollouts)
    again, _ = search_bits(model, table, IMAGES, tmp_path, plan, average=4.0, score=score)
    assert again == choice and len(asked) == 5


def test_problems_that_cannot_be():
    for change in ({"layers": ()}, {"average": 1.0}, {"fewest": 9}):
        with pytest.raises(QuantizationError):
            BitProblem(**({"layers": LAYERS, "average": 4.0} | change))
