"""The stage that makes zeros without labels: any pattern, target and course ends with a whole sparse network."""

import copy
import time

import pytest
import torch
from torch import nn

import tiny_networks
from secateur import zoo
from secateur.errors import SecateurError, SparsityError
from secateur.export import load_weights
from secateur.pipeline import Context
from secateur.pipeline.network import restore_network_, save_network
from secateur.pipeline.stages.posttraining import posttraining_stage
from secateur.posttraining import Calibration, correct_weights
from secateur.recipe import PosttrainingStage, parse_recipe
from secateur.sparsity import census, masks
from secateur.sparsity.layers import weighted_modules

SMALL = {"images": 24, "held_out": 8, "batch_size": 12}
EMPTY = parse_recipe(tiny_networks.RECIPE)
SHARED: dict[str, str] = {}


@pytest.fixture(autouse=True, scope="module")
def shared(tmp_path_factory):
    """Gram matrices and databases of the networks here, made once."""
    SHARED["cache"] = str(tmp_path_factory.mktemp("cache"))
    yield
    SHARED.clear()


def run(folder, network=None, images=None, **keys):
    """(network, dense copy, result)."""
    torch.manual_seed(0)
    network = network or tiny_networks.Tiny()
    dense = copy.deepcopy(network).eval()
    folder.mkdir(exist_ok=True)
    context = Context(EMPTY, folder, images or tiny_networks.images(), network, stage_folder=folder)
    return network, dense, posttraining_stage(context, PosttrainingStage.model_validate(SMALL | SHARED | keys))


def zeros(network):
    return {name: int((module.weight == 0).sum()) for name, module in weighted_modules(network).items()}


def nearer(row):
    return row["fall"] > row["error"] and row["sharp_fall"] >= -row["sharp_error"]


def weights(network):
    return {name: module.weight.numel() for name, module in weighted_modules(network).items()}


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_asked_zeros_no_labels_and_a_result_in_json(tmp_path):
    network, _, result = run(tmp_path, sparsity=0.5)
    total = sum(weights(network).values())
    assert sum(zeros(network).values()) == pytest.approx(0.5 * total, abs=0.02 * total)
    assert sum(zeros(network).values()) >= 0.5 * total
    assert zeros(network)["stem"] == zeros(network)["depthwise"] == 0
    (plan,) = result["plans"]
    assert plan["achieved"] == pytest.approx(sum(zeros(network).values()) / total)
    assert len(result["calibration"]["indices"]) == 24
    assert result["levels"]["layers"] and result["orders"] == [] and result["tuning"] is None
    assert [row["step"] for row in result["steps"]] == ["closed form", "norm statistics"]
    assert not network.training


def test_the_same_again_and_from_what_is_kept(tmp_path):
    first, _, one = run(tmp_path / "a", sparsity=0.6, cache=None)
    second, _, two = run(tmp_path / "b", sparsity=0.6, cache=None)
    third, _, _ = run(tmp_path / "a", sparsity=0.6, cache=None)
    assert same(first, second) and same(first, third)
    assert one["steps"] == two["steps"]


def test_2_4_needs_no_target(tmp_path):
    network, _, result = run(tmp_path, patterns=["2:4"], second_pass=False)
    for name in ("body", "point"):
        groups = network.get_submodule(name).weight.flatten(2).movedim(1, 2).reshape(-1, 4)
        assert ((groups != 0).sum(1) <= 2).all()
    assert result["levels"] is None and result["plans"][0]["pattern"] == "2:4"
    # 18 inputs of the classifier are not whole groups of four, or are padded: either way it says so.
    assert {layer["name"]: layer["level"] for layer in result["plans"][0]["layers"]}["body"] == 0.5


@pytest.mark.parametrize("allocation", ["uniform", "erk", "database"])
@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
def test_levels_by_rule_and_by_database(tmp_path, allocation, pattern):
    network, _, result = run(tmp_path, patterns=[pattern], allocation=allocation, sparsity=0.4, base="selected")
    own = {"body", "point", "classifier"} & {layer["name"] for layer in result["plans"][0]["layers"] if layer["level"]}
    assert sum(zeros(network)[name] for name in own) >= 0.3 * sum(weights(network)[name] for name in own)
    assert not any(count for name, count in zeros(network).items() if name not in own)


def test_every_layer_gets_the_pattern_that_suits_it(tmp_path):
    network, _, result = run(tmp_path, patterns=["1x4", "2:4"], sparsity=0.45, base="selected", second_pass=False)
    assert {plan["pattern"] for plan in result["plans"]} <= {"1x4", "2:4"}
    levelled = [layer["name"] for plan in result["plans"] for layer in plan["layers"] if layer["level"] is not None]
    assert len(levelled) == len(set(levelled))
    assert set(masks(network)) == set(levelled)


@pytest.mark.parametrize("cost", ["parameters", "macs", "bytes"])
def test_what_may_remain_of_a_cost(tmp_path, cost):
    network, dense, result = run(tmp_path, remaining={cost: 0.6}, second_pass=False)
    levels = result["levels"]
    assert levels["cost"] <= 0.6 * levels["dense"] * (1 + 1e-9)
    after, before = census(network), census(dense)
    if cost == "macs":
        macs = after.base("macs")
        assert (macs.total - macs.zeros) / macs.total <= 0.6 + 1e-9
    if cost == "parameters":
        assert after.nonzeros <= 0.6 * before.parameters + 1


def test_seconds_are_measured_where_no_table_is_given(tmp_path, monkeypatch):
    from secateur.pipeline.stages import posttraining as module
    from secateur.sparsity import LayerSeconds

    asked = []

    def measured(network, pattern, threads):
        asked.append((pattern, threads))
        layers = {name: {0.0: 1e-3, 0.5: 5e-4, 0.9: 2e-4} for name in ("body", "point", "classifier")}
        return LayerSeconds("here", pattern, layers, 1e-3)

    monkeypatch.setattr(module, "measure_layer_seconds", measured)
    _, _, result = run(tmp_path, remaining={"seconds": 0.7}, second_pass=False)
    assert asked == [("unstructured", 1)]
    assert result["levels"]["cost"] <= 0.7 * result["levels"]["dense"] + 1e-12


def test_a_box_too_short_still_ends_with_the_asked_zeros(tmp_path):
    started = time.monotonic()
    network, _, result = run(tmp_path, sparsity=0.6, budget=0.01, tuning={}, reconstruction={"steps": 1000})
    assert time.monotonic() - started < 60
    total = sum(weights(network).values())
    assert sum(zeros(network).values()) >= 0.6 * total
    assert result["tuning"] is None
    outputs = network(torch.zeros(2, 3, 16, 16))
    assert torch.isfinite(outputs).all()


class Plain(nn.Module):
    """Convolutions with a shift each and no norm but one; outputs have means far from 0."""

    def __init__(self):
        super().__init__()
        self.preprocessing = zoo.Preprocessing(input_size=(3, 16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)
        self.first, self.middle = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.normed, self.norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.last = nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.middle(torch.relu(self.first(x)) + 1.0))
        return self.last(torch.relu(self.norm(self.normed(x))).mean(dim=(2, 3)))


@pytest.mark.parametrize("second_pass", [False, True])
@pytest.mark.parametrize("allocation", ["database", "uniform"])
def test_biases_take_the_shift_where_no_norm_follows(tmp_path, second_pass, allocation):
    keys = {"sparsity": 0.7, "base": "selected", "allocation": allocation, "second_pass": second_pass}
    network, dense, result = run(tmp_path / "with", Plain(), **keys, layers=["middle", "normed"], estimate_norms=True)
    plain, _, _ = run(
        tmp_path / "without", copy.deepcopy(dense), **keys, layers=["middle", "normed"], correct_bias=False
    )
    assert network.normed.bias is None
    assert torch.equal(plain.middle.bias, dense.middle.bias) and not torch.equal(network.middle.bias, dense.middle.bias)

    # Over the images that calibrated the means agree; `middle` is the first layer with zeros, so its inputs are dense.
    seen, calibration = {}, Calibration.from_dict(result["calibration"], tiny_networks.images())
    images = torch.cat(list(calibration.batches(dense.preprocessing, 64)))
    for key, model in (("dense", dense), ("with", network), ("without", plain)):
        model.middle.register_forward_hook(lambda _m, _i, out, key=key: seen.update({key: out.mean(dim=(0, 2, 3))}))
        with torch.no_grad():
            model(images)
    far = {key: float((seen[key] - seen["dense"]).abs().max()) for key in ("with", "without")}
    assert far["with"] < 1e-5 and far["with"] < 0.1 * far["without"]


class Odd(nn.Module):
    """One tensor in two convolutions that walk differently, one layer that runs on no image, a transposed one."""

    def __init__(self):
        super().__init__()
        self.preprocessing = zoo.Preprocessing(input_size=(3, 16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.two.weight = self.one.weight
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.idle = nn.Conv2d(8, 8, 3)
        self.body = nn.Conv2d(8, 16, 3)
        self.last = nn.Linear(16, 4)

    def forward(self, x):
        x = torch.relu(self.two(torch.relu(self.one(torch.relu(self.stem(x))))))
        return self.last(torch.relu(self.body(self.up(x))).mean(dim=(2, 3)))


@pytest.mark.parametrize("keys", [{}, {"allocation": "uniform"}, {"patterns": ["2:4"], "sparsity": None}])
def test_what_has_no_gram_matrix_stays_dense_with_a_reason(tmp_path, keys):
    network, _, result = run(tmp_path, Odd(), **({"sparsity": 0.3, "base": "selected"} | keys))
    (plan,) = result["plans"]
    notes = {layer["name"]: layer["reason"] for layer in plan["layers"] if layer["level"] is None}
    assert "walk over their inputs differently" in notes["one"]
    assert "transposed" in notes["up"]
    assert notes["idle"] == "no image reaches it"
    assert zeros(network)["body"] > 0 and zeros(network)["idle"] == zeros(network)["one"] == 0


@pytest.mark.parametrize(("keys", "rule"), [({"rearrange": True, "patterns": ["1x4"], "sparsity": 0.2}, "1x4"),
                                            ({"permute": True, "patterns": ["2:4"]}, "2:4")])  # fmt: skip
def test_another_order_of_channels_is_the_same_function(tmp_path, keys, rule):
    torch.manual_seed(0)
    network = tiny_networks.Tiny().eval()
    dense = copy.deepcopy(network)
    context = Context(EMPTY, tmp_path, tiny_networks.images(), network, stage_folder=tmp_path)
    result = posttraining_stage(context, PosttrainingStage.model_validate(SMALL | keys))
    assert result["orders"] and result["plans"][0]["pattern"] == rule
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(context.dense(images), dense(images), atol=1e-5)
    # A dense network that was remembered before is put in the same order.
    again = Context(
        EMPTY, tmp_path / "b", tiny_networks.images(), copy.deepcopy(dense), dense, stage_folder=tmp_path / "b"
    )
    (tmp_path / "b").mkdir()
    posttraining_stage(again, PosttrainingStage.model_validate(SMALL | keys))
    assert same(again.network, network)
    assert same(again.dense, context.dense)


@pytest.mark.parametrize("keys", [
    {"reconstruction": {"steps": 5, "unit": "layer"}},
    {"reconstruction": {"steps": 5, "unit": "block", "table": [0.2, 0.4]}},
    {"reconstruction": {"steps": 5, "unit": "layer", "rounds": 2}},
    {"reconstruction": {"steps": 5, "mask": "every_step"}, "patterns": ["1x4"]},
    {"reconstruction": {"steps": 5, "unit": "layer"}, "patterns": ["filter"], "criterion": "fpgm-l2"},
    {"reconstruction": {"steps": 5, "mask": "every_step", "batch_size": 8, "bias_learning_rate": 1e-4},
     "fold_norms": True, "correct_weights": "msb", "correct_bias": True, "estimate_norms": False,
     "rounding": "complement", "ties": "threshold"},
])  # fmt: skip
def test_the_published_protocols(tmp_path, keys):
    table = keys["reconstruction"].get("table")
    network, _, result = run(tmp_path, method="magnitude", sparsity=None if table else 0.4, base="selected", **keys)
    chosen = [layer["name"] for layer in result["plans"][0]["layers"] if layer["level"]]
    count, total = sum(zeros(network)[n] for n in chosen), sum(weights(network)[n] for n in chosen)
    assert count / total == pytest.approx(0.4, abs=0.06)
    assert result["steps"][0]["step"] == "magnitude" and result["levels"] is None
    assert [row["sparsity"] for row in result["table"]] == (table or [])


def test_every_level_of_a_table_is_measured_and_kept(tmp_path):
    config = {"steps": 5, "unit": "layer", "table": [0.2, 0.4]}
    network, _, result = run(tmp_path, method="magnitude", base="selected", reconstruction=config)
    first, last = result["table"]
    assert first["sparsity"] == 0.2 and abs(last["achieved"] - 0.4) < 0.03 and 0 <= last["top1"] <= 100
    assert last["divergence"] == pytest.approx(result["steps"][0]["distance"], rel=1e-4)
    states = [load_weights(tmp_path / "levels" / level / "weights.safetensors")[0] for level in ("20", "40")]
    assert torch.equal(states[1]["body.weight"], network.body.weight)
    removed = [state["body.weight"] == 0 for state in states]
    assert not (removed[0] & ~removed[1]).any() and removed[0].sum() < removed[1].sum()


def test_the_published_protocol_computes_what_it_says(tmp_path):
    """No step: masks by magnitude of the folded weights, weights and biases corrected, norms as they were."""
    network, dense, _ = run(
        tmp_path, method="magnitude", sparsity=0.5, base="selected", layers=["body"], fold_norms=True,
        correct_weights="msb", correct_bias=True, estimate_norms=False, reconstruction={"steps": 0},
        rounding="complement", ties="threshold",
    )  # fmt: skip
    mask = masks(network)["body"]
    sizes = dense.body.weight.abs().flatten().sort().values
    assert torch.equal(mask, dense.body.weight.abs() > sizes[len(sizes) // 2 - 1])
    torch.testing.assert_close(network.body.weight, correct_weights(dense.body.weight, mask, "msb"))
    assert float(network.norm.running_mean.abs().max()) == 0 and network.stem.bias is not None
    other = tiny_networks.Tiny()
    save_network(network, tmp_path / "network.safetensors")
    restore_network_(other, tmp_path / "network.safetensors")
    assert same(network, other)


@pytest.mark.parametrize(
    "tuning", [{"steps": 12, "mix": 1.0}, {"steps": 12, "masks": "scheduled"}, {"steps": 12, "masks": "learned"}]
)
def test_tuning_keeps_the_zeros_and_helps_or_is_undone(tmp_path, tuning):
    settings = {"batch_size": 8, "learning_rate": 0.01, "augment": False}
    network, _, result = run(tmp_path, sparsity=0.6, base="selected", tuning=settings | tuning)
    row = result["steps"][-1]
    assert row["step"] == "tuning" and row["kept"] is nearer(row)
    planned = sum(layer["zeros"] for layer in result["plans"][0]["layers"])
    assert sum(zeros(network).values()) == planned
    assert result["tuning"]["rows"][-1]["step"] == 12


def test_reconstruction_after_the_closed_form(tmp_path):
    network, _, result = run(tmp_path, sparsity=0.6, base="selected", reconstruction={"steps": 20, "unit": "layer"})
    assert [row["step"] for row in result["steps"]] == ["closed form", "norm statistics", "layer reconstruction"]
    row = result["steps"][-1]
    assert row["kept"] is nearer(row)
    assert sum(zeros(network).values()) == sum(layer["zeros"] for layer in result["plans"][0]["layers"])


def test_no_zeros_is_a_network_as_it_was(tmp_path):
    network, dense, result = run(tmp_path, sparsity=0.0, tuning={"steps": 3}, reconstruction={"steps": 3})
    assert result["plans"] == [] and result["tuning"] is None
    for name, module in weighted_modules(network).items():
        assert torch.equal(module.weight, weighted_modules(dense)[name].weight)


def test_zeros_of_a_stage_before_stay(tmp_path):
    from secateur.sparsity import sparsify_

    torch.manual_seed(0)
    network = tiny_networks.Tiny()
    sparsify_(network, 0.5, "unstructured", base="selected", only=["point"])
    before = masks(network)["point"].clone()
    context = Context(EMPTY, tmp_path, tiny_networks.images(), network, tiny_networks.Tiny(), stage_folder=tmp_path)
    stage = PosttrainingStage.model_validate(SMALL | {"sparsity": 0.5, "base": "selected", "layers": ["body"]})
    posttraining_stage(context, stage)
    assert torch.equal(masks(network)["point"], before)
    assert zeros(network)["body"] >= 0.5 * network.body.weight.numel()


def test_zeros_that_a_pattern_fills_are_told(tmp_path, capsys):
    from secateur.sparsity import sparsify_

    torch.manual_seed(0)
    network = tiny_networks.Tiny()
    sparsify_(network, 0.75, "unstructured", base="selected", only=["body"])
    context = Context(EMPTY, tmp_path, tiny_networks.images(), network, tiny_networks.Tiny(), stage_folder=tmp_path)
    posttraining_stage(context, PosttrainingStage.model_validate(SMALL | {"patterns": ["2:4"], "layers": ["body"]}))
    filled = int(0.75 * network.body.weight.numel()) - zeros(network)["body"]
    assert filled > 0
    assert (
        f"{filled:,} zeros that the network had are weights now, in 1 layers (most in body)" in capsys.readouterr().err
    )


def test_a_target_out_of_reach_is_said(tmp_path):
    with pytest.raises(SecateurError, match="ask for less"):
        run(tmp_path, sparsity=0.99)


def test_a_layer_that_is_not_there_is_said(tmp_path):
    with pytest.raises(SparsityError, match="nowhere"):
        run(tmp_path, layers=["nowhere"])
