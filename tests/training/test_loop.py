"""The loop as a whole: it learns, it is the plain algorithm, it refuses what cannot be trained."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from secateur.errors import DataError, TrainingError
from secateur.files import read_json
from secateur.recipe import Distillation
from secateur.sparsity import AgpEpochs, Sparsifier, census, masks, plan_sparsity
from secateur.training import History, distill, fit
from secateur.zoo import ImageData, loader


def train(job, model, folder, *, images=None, teacher=None, distillation=None, sparsifier=None, seed=0, **settings):
    return fit(
        model,
        images or job.images(),
        job.settings(**settings),
        folder=folder,
        preprocessing=job.PREPROCESSING,
        teacher=teacher,
        distillation=distillation,
        sparsifier=sparsifier,
        seed=seed,
    )


def test_it_learns(job, tmp_path):
    history = train(job, job.network(), tmp_path, epochs=10, learning_rate=0.1, augment=False)
    assert history.last.top1 > 90 and history.last.top5 == 100.0
    assert history.last.loss < 0.2 < history.rows[0].loss


def test_it_is_the_plain_algorithm(job, tmp_path):
    """One epoch against a loop written out here: gradients, smoothing, Nesterov, decay, schedule, history."""
    found = job.network(dropout=0.0)
    history = train(job, found, tmp_path, epochs=1, label_smoothing=0.1, weight_decay=0.01, batch_size=16)

    model = job.network(dropout=0.0).train()
    velocity = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    losses, correct = [], 0
    batches = loader(job.images(), "train", job.PREPROCESSING, batch_size=16, augment=True, seed=0, epoch=0)
    for step, (inputs, labels) in enumerate(batches):
        outputs = model(inputs)
        soft = F.one_hot(labels, job.CLASSES) * 0.9 + 0.1 / job.CLASSES
        loss = -(soft * outputs.log_softmax(1)).sum(1).mean()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        rate = 0.05 * 0.5 * (1 + math.cos(math.pi * step / 6))
        for (name, value), gradient in zip(model.named_parameters(), gradients, strict=True):
            gradient = gradient + (0.01 * value if value.ndim > 1 else 0)
            velocity[name] = 0.9 * velocity[name] + gradient
            value.data -= rate * (gradient + 0.9 * velocity[name])
        losses.append(loss.item())
        correct += int((outputs.argmax(1) == labels).sum())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-4, atol=1e-6, msg=name)
    row = history.last
    assert row.loss == pytest.approx(sum(losses) / 6, rel=1e-5)
    assert row.train_accuracy == pytest.approx(100 * correct / 96)
    assert row.learning_rate == pytest.approx(rate) and row.epoch == 0 and row.sparsity == 0.0


def test_same_seed_same_result_and_another_seed_another(job, tmp_path):
    torch.manual_seed(3)
    models = [job.network(norm=False) for _ in range(3)]
    for number, (model, seed) in enumerate(zip(models, (0, 0, 1), strict=True)):
        torch.rand(number)  # random numbers drawn elsewhere do not matter
        train(job, model, tmp_path / str(number), epochs=1, seed=seed)
    one, two, other = (model[0].weight for model in models)
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_the_callers_random_numbers_layout_and_parameters_are_left_alone(job, tmp_path):
    model = job.network()
    parameters = {id(p) for p in model.parameters()}
    state = torch.get_rng_state()
    train(job, model, tmp_path, epochs=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert {id(p) for p in model.parameters()} == parameters
    assert all(value.is_contiguous() for value in model.state_dict().values())


def test_masks_follow_the_schedule_and_the_history_says_so(job, tmp_path):
    model = job.network()
    plan = plan_sparsity(model, 0.75, "unstructured", base="selected", include_first=True, include_classifier=True)
    schedule = AgpEpochs(0, 3, 1, 0.05, 0.75)
    sparsifier = Sparsifier(model, plan, schedule)
    history = train(job, model, tmp_path, epochs=4, sparsifier=sparsifier, weight_decay=0.1, augment=False)
    expected = [0.05, schedule.sparsity_at(1), 0.75, 0.75]
    assert [row.sparsity for row in history.rows] == pytest.approx(expected, abs=1e-3)
    assert history.last.sparsity == pytest.approx(census(model, (3, job.SIDE, job.SIDE)).sparsity, abs=1e-12)
    for name, mask in masks(model).items():
        assert not model.get_submodule(name).weight[~mask].any()


def test_the_teacher_is_the_model_as_it_was_given(job, tmp_path):
    """With the teacher's weight alone, a student that starts as its teacher stays there, whatever the labels."""
    model = job.network(norm=False, dropout=0.0)
    before = model[0].weight.detach().clone()
    alone = Distillation.model_validate({"weight": 1.0, "task_weight": 0.0})
    history = train(job, model, tmp_path / "same", distillation=alone, weight_decay=0.0)
    assert history.last.loss == pytest.approx(0.0, abs=1e-6)
    torch.testing.assert_close(model[0].weight, before, rtol=0, atol=1e-6)


def test_distill_pulls_a_student_to_its_teacher(job, tmp_path):
    teacher, student = job.network(), job.network(width=4)
    train(job, teacher, tmp_path / "teacher", epochs=6, augment=False)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    teacher.train()
    history = distill(
        student,
        teacher,
        job.images(),
        job.settings(epochs=6, learning_rate=0.01, augment=False),
        folder=tmp_path / "student",
        distillation=Distillation.model_validate({"weight": 1.0, "task_weight": 0.0}),
        preprocessing=job.PREPROCESSING,
    )
    assert history.last.loss < 0.3 * history.rows[0].loss and history.last.top1 > 60
    assert all(torch.equal(teacher.state_dict()[name], value) for name, value in before.items())
    assert teacher.training and all(p.requires_grad for p in teacher.parameters())


def test_a_loss_that_is_no_number_stops_and_the_checkpoint_stays_good(job, tmp_path):
    model = job.network(norm=False)
    calls = 0

    def poison(module, *_):
        nonlocal calls
        calls += module.training
        if calls == 15:
            module.weight.data[0] = math.nan

    model[0].register_forward_pre_hook(poison)
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 2, batch 3 of 12, at learning rate 0\.0\d+; a"):
        train(job, model, tmp_path)
    healthy = job.network(norm=False)
    history = train(job, healthy, tmp_path)
    assert len(history) == 3 and all(value.isfinite().all() for value in healthy.state_dict().values())


def test_an_exploding_run_says_at_which_learning_rate(job, tmp_path):
    with pytest.raises(
        TrainingError, match=r"the loss is (nan|inf) in epoch 1, batch \d+ of 12, at learning rate 1e\+30"
    ):
        train(job, job.network(norm=False), tmp_path, learning_rate=1e30, decay="constant")


def test_clipping_keeps_the_same_run_alive(job, tmp_path):
    settings = {"learning_rate": 1e3, "decay": "constant", "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    model = job.network(norm=False)
    start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    train(job, model, tmp_path, epochs=1, batch_size=96, clip_gradient_norm=1e-6, **settings)
    moved = nn.utils.parameters_to_vector(model.parameters()) - start
    assert moved.norm().item() == pytest.approx(1e3 * 1e-6, rel=1e-2)


def test_only_the_last_epoch_is_evaluated_on_request(job, tmp_path):
    history = fit(
        job.network(),
        job.images(),
        job.settings(),
        folder=tmp_path,
        preprocessing=job.PREPROCESSING,
        evaluate_each_epoch=False,
    )
    assert [row.top1 is None for row in history.rows] == [True, True, False]
    assert History.from_dict(read_json(tmp_path / "history.json")) == history
    assert list((tmp_path / "tensorboard").iterdir())


def test_no_epochs(job, tmp_path):
    model = job.network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert train(job, model, tmp_path, epochs=0) == History()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("empty", [True, False])
def test_no_training_images_is_a_sentence(job, tmp_path, empty):
    images = job.images(train=0) if empty else job.images()
    images = ImageData("folder", images.train if empty else None, images.test, images.classes)
    with pytest.raises(DataError, match=r"folder.*has no train"):
        train(job, job.network(), tmp_path, images=images)


def test_a_teacher_without_a_way_to_learn_is_a_sentence(job, tmp_path):
    with pytest.raises(TrainingError, match="give a distillation too"):
        train(job, job.network(), tmp_path, teacher=job.network())


def test_the_sparsifier_of_another_model_is_a_sentence(job, tmp_path):
    with pytest.raises(TrainingError, match="the sparsifier was built for another model"):
        train(job, job.network(), tmp_path, sparsifier=job.sparsifier(job.network()))


def test_too_few_outputs_is_a_sentence(job, tmp_path):
    model = job.network()
    model[-1] = nn.Linear(model[-1].in_features, 3)
    with pytest.raises(DataError, match="the model has 3 outputs, but an image has label"):
        train(job, model, tmp_path)
    assert model[0].weight.is_contiguous()
