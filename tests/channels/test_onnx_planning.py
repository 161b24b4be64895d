"""Plans for ONNX files: what goes, and that the target is met."""

import numpy as np
import onnx
import pytest

from channels import onnx_topologies
from channels.onnx_topologies import outputs_of, run
from secateur.channels import plan_channels_onnx, remove_channels_onnx
from secateur.channels.onnx_trace import groups_of_onnx
from secateur.errors import ModelError, RecipeError, SparsityError
from secateur.graph.onnx_census import census_of_onnx


@pytest.mark.parametrize("base", ["macs", "parameters", "channels"])
@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_target_is_met(base, scope, tmp_path):
    file = onnx_topologies.residual()
    plan = plan_channels_onnx(file, 0.5, base=base, scope=scope)
    thin = onnx.load(remove_channels_onnx(file, tmp_path / "thin.onnx", plan))
    if base == "macs":
        assert census_of_onnx(thin).macs == plan.macs_after <= 0.5 * plan.macs_before
    elif base == "parameters":
        assert groups_of_onnx(thin).parameters == plan.parameters_after <= 0.5 * plan.parameters_before
    else:
        assert plan.removed == 7 if scope == "uniform" else 1 <= plan.removed <= 7  # half of 8 + 6
    assert [out.shape for out in run(thin)] == [(2, 4)]


def test_smallest_filters_go():
    file = onnx_topologies.chain()
    tensors = onnx_topologies.tensors_of(file)
    weight = onnx.numpy_helper.to_array(tensors["a.weight"]).copy()
    weight[[1, 5]] *= 1e-3
    tensors["a.weight"].CopyFrom(onnx.numpy_helper.from_array(weight, "a.weight"))
    plan = plan_channels_onnx(file, 0.25, base="channels", exclude=["b"])
    assert {cut.tensor: cut.removed.tolist() for cut in plan.cuts if cut.role == "producer"} == {"a.weight": [1, 5]}


def test_round_to_and_what_cannot_be(tmp_path):
    file = onnx_topologies.residual()
    plan = plan_channels_onnx(file, 0.3, round_to=4)
    assert all(group.after % 4 == 0 or group.after == group.before for group in plan.groups)
    with pytest.raises(SparsityError, match="cannot be removed"):
        plan_channels_onnx(file, 0.99)
    with pytest.raises(RecipeError, match="Did you mean 'l1'"):
        plan_channels_onnx(file, 0.5, criterion="ll1")
    with pytest.raises(SparsityError, match="unknown layer or glob"):
        plan_channels_onnx(file, 0.5, exclude=["layer9*"])
    with pytest.raises(ModelError, match="there is no such file"):
        plan_channels_onnx(tmp_path / "none.onnx", 0.5)


def test_irregularly_thinned_resnet_goes_on_being_pruned(shared_data, tmp_path):
    """A file that Distiller thinned years ago: every layer has another number of channels."""
    source = shared_data / "onnx" / "resnet20_distiller_channel_pruned_cifar10.onnx"
    if not source.is_file():
        pytest.skip(f"needs {source.name}")
    assert sum(group.size for group in groups_of_onnx(source).free) == 379
    plan = plan_channels_onnx(source, 0.5)
    thin = remove_channels_onnx(source, tmp_path / "thin.onnx", plan)
    assert census_of_onnx(thin).macs == plan.macs_after <= 0.5 * census_of_onnx(source).macs
    assert outputs_of(thin, np.zeros((2, 3, 32, 32), np.float32))[0].shape == (2, 10)
