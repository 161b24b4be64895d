"""When a training rounds and freezes norms; a killed run goes on bit for bit, with masks and a teacher."""

import copy

import pytest
import torch
from torch import nn

from rounded_networks import everything
from secateur.errors import TrainingError
from secateur.quantization.training import prepare_
from secateur.quantization.training.activation_rules.pact import LearnedClip
from secateur.quantization.training.hook import RoundingSchedule
from secateur.recipe import Distillation, Training
from secateur.recipe.schema.quantization_training import QuantizationTraining
from secateur.sparsity import AgpEpochs, Sparsifier, masks, plan_sparsity
from secateur.training import fit
from secateur.training.hooks import Hook, Scene
from secateur.training.optimizer import build_optimizer
from secateur.zoo import ImageData, Preprocessing
from secateur.zoo.image_data import ArrayImages

PREPROCESSING = Preprocessing((3, 12, 12), (0.5,) * 3, (0.25,) * 3)


def data():
    pixels = torch.randint(0, 255, (40, 12, 12, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(40) % 5
    some = ArrayImages(pixels.numpy(), labels.numpy())
    return ImageData("noise", some, some, tuple("abcde"), flip=False)


class Watch(Hook):
    """Remembers which steps rounded and which norms followed their batch, and may break the training off."""

    def __init__(self, model, stop=None):
        self.model, self.stop, self.seen = model, stop, []

    def before_step(self, step):
        if step == self.stop:
            raise InterruptedError
        rules = [module.on for module in self.model.modules() if hasattr(module, "on")]
        norms = [module.training for module in self.model.modules() if isinstance(module, nn.BatchNorm2d)]
        assert len(set(rules)) == len(set(norms)) == 1
        self.seen.append((rules[0], norms[0]))


@pytest.fixture(scope="module")
def prepared(places):
    """Copies of it are what prepare_ would give again."""
    model = everything()
    Sparsifier(model, plan_sparsity(model, 0.5, "unstructured", base="selected"), AgpEpochs(0, 2, 1, 0.1, 0.5))
    config = QuantizationTraining(scheme="lsq", weight_bits=4, activation_bits=4, quant_delay=2, freeze_bn_delay=5)
    return prepare_(model, config, (3, 12, 12), known=places)


def train(prepared, folder, stop=None):
    prepared = copy.deepcopy(prepared)
    model = prepared.model
    plan = plan_sparsity(model, 0.5, "unstructured", base="selected")
    sparsifier = Sparsifier(model, plan, AgpEpochs(0, 2, 1, 0.1, 0.5))
    watch = Watch(model, stop)
    training = Training(epochs=2, batch_size=10, learning_rate=0.01, checkpoint_seconds=1e-9)
    try:
        history = fit(
            model, data(), training, folder=folder, preprocessing=PREPROCESSING, sparsifier=sparsifier,
            teacher=everything(3), distillation=Distillation(), hooks=(prepared.hook(), watch),
        )  # fmt: skip
    except InterruptedError:
        assert stop is not None
        history = None
    return model, history, watch.seen


def test_a_killed_run_goes_on_bit_for_bit(prepared, tmp_path):
    model, history, seen = train(prepared, tmp_path / "unbroken")
    assert [on for on, _ in seen] == [False] * 2 + [True] * 6
    assert [norm for _, norm in seen] == [True] * 5 + [False] * 3
    for stop in (1, 6):
        folder = tmp_path / f"broken{stop}"
        assert train(prepared, folder, stop)[1] is None
        resumed, again, seen = train(prepared, folder)
        assert len(seen) == 8 - stop and seen[-1] == (True, False)
        assert [row.loss for row in again.rows] == [row.loss for row in history.rows]
        state = model.state_dict()
        assert "rounded_activations.input.step" in state and set(state) == set(resumed.state_dict())
        assert all(torch.equal(value, state[name]) for name, value in resumed.state_dict().items())
    assert len(masks(model)) >= 4
    for name, mask in masks(model).items():
        assert not model.get_submodule(name).weight[~mask].any() and (~mask).any()
    before = dict(prepared.model.named_parameters())
    moved = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
    assert any(name.endswith("rule.step") for name in moved) and "rounded_activations.input.step" in moved


def test_pact_pays_for_its_clips():
    config = QuantizationTraining(scheme="pact", clip=4.0, clip_decay=0.5, quant_delay=1)
    model = nn.Sequential(nn.Linear(2, 2), LearnedClip(8, config), LearnedClip(8, config))
    hook = RoundingSchedule(model, config)
    hook.begin(Scene(model, build_optimizer(model, Training()), None, Training(), 4, 0))
    assert hook.extra_loss(model, 0).item() == 0
    assert hook.extra_loss(model, 1).item() == pytest.approx(2 * 0.25 * 16)
    hook.end()
    assert hook.description()["clip"] == 4.0


def test_another_network_is_refused():
    model = everything()
    hook = RoundingSchedule(everything(), QuantizationTraining())
    with pytest.raises(TrainingError, match="not the one that prepare_"):
        hook.begin(Scene(model, build_optimizer(model, Training()), None, Training(), 4, 0))
