"""The two forms of distillation, with the oracles of their sources."""

import pytest
import torch
import torch.nn.functional as F

from secateur.errors import TrainingError
from secateur.recipe import Distillation
from secateur.training import soft_loss
from secateur.training.distillation import as_teacher, distillation_loss, outputs_of

TEACHER = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64)
STUDENT = torch.tensor([[1.0, 1.0, 1.5]], dtype=torch.float64)


def form(**values) -> Distillation:
    return Distillation.model_validate(values)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"form": "cross_entropy"}, 1.110254),
        ({"form": "cross_entropy", "square_temperature": True}, 16 * 1.110254),
        ({"form": "kl", "square_temperature": False}, 0.032154),
        ({"form": "kl"}, 0.514469),
    ],
)
def test_oracle_of_algorithms_l9(settings, expected):
    assert soft_loss(STUDENT, TEACHER, form(temperature=4.0, **settings)).item() == pytest.approx(expected, rel=2e-5)


def test_the_loss_term_of_pocketflow():
    config = form(form="cross_entropy", temperature=4.0, weight=4.0, task_weight=0.0)
    loss = distillation_loss(torch.tensor(7.0, dtype=torch.float64), STUDENT, TEACHER, config)
    assert loss.item() == pytest.approx(4.441016, abs=5e-7)


def test_weights_of_task_and_teacher():
    task = torch.tensor(7.0, dtype=torch.float64)
    config = form(weight=0.25, task_weight=0.5)
    expected = 0.5 * 7.0 + 0.25 * soft_loss(STUDENT, TEACHER, config).item()
    assert distillation_loss(task, STUDENT, TEACHER, config).item() == pytest.approx(expected, rel=1e-12)


def test_a_perfect_student_has_no_kl_and_no_gradient():
    student = TEACHER.clone().requires_grad_()
    loss = soft_loss(student, TEACHER, form())
    loss.backward()
    assert abs(loss.item()) < 1e-14
    assert student.grad is not None and student.grad.abs().max() < 1e-14


def test_mean_over_the_batch_agrees_with_torch():
    torch.manual_seed(0)
    student, teacher = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    kl = F.kl_div((student / 3).log_softmax(1), (teacher / 3).log_softmax(1), reduction="batchmean", log_target=True)
    cross = F.cross_entropy(student / 3, (teacher / 3).softmax(1))
    plain = {"temperature": 3.0, "square_temperature": False}
    assert soft_loss(student, teacher, form(**plain)).item() == pytest.approx(kl.item(), rel=1e-12)
    found = soft_loss(student, teacher, form(form="cross_entropy", **plain)).item()
    assert found == pytest.approx(cross.item(), rel=1e-12)


def test_both_forms_have_the_same_gradient():
    gradients = []
    for name in ("kl", "cross_entropy"):
        student = STUDENT.clone().requires_grad_()
        soft_loss(student, TEACHER, form(form=name, square_temperature=True)).backward()
        gradients.append(student.grad)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=0)


def test_networks_with_other_classes_are_a_sentence():
    with pytest.raises(TrainingError, match=r"the student's output has shape \(1, 3\), the teacher's \(1, 2\)"):
        soft_loss(STUDENT, TEACHER[:, :2], form())


def test_a_teacher_is_a_frozen_copy_that_normalises_by_running_statistics(job):
    network = job.network(norm=True).train()
    teacher = as_teacher(network)
    images = torch.randn(5, 3, job.SIDE, job.SIDE)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = outputs_of(teacher, images), outputs_of(teacher, images)
    assert torch.equal(first, second), "dropout and batch statistics are off"
    assert not first.requires_grad and not any(p.requires_grad for p in teacher.parameters())
    assert network.training and all(p.requires_grad for p in network.parameters())
    with torch.no_grad():
        network[0].weight.zero_()
    assert torch.equal(outputs_of(teacher, images), first)
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
