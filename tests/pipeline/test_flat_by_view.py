"""A network whose forward says `x.view(-1, 16 * 2 * 2)`, as LeNet does, takes every way that others take."""

import pytest
import torch

import secateur
import tiny_networks
from secateur.pipeline import load_record

LEARN = {"epochs": 1, "batch_size": 16}
ZEROS = {"sparsity": 0.5, "base": "selected"}
IMAGES = {"images": 24, "held_out": 8}
STAGES = {
    "sparsify": {
        "stage": "sparsify", **ZEROS, "pattern": "1x4", "criterion": "wanda", "regression": {"iterations": 3},
        "schedule": {"kind": "one_shot"}, "training": LEARN, "distillation": {},
    },
    "posttraining": {
        "stage": "posttraining", **ZEROS, **IMAGES, "patterns": ["1x4"], "batch_size": 12, "cache": None,
        "reconstruction": {"steps": 3}, "tuning": {"steps": 6},
    },
    "remove_channels": {"stage": "remove_channels", "target": 0.8, "training": LEARN},
    "quantize": {"stage": "quantize", "method": "qat", "training": LEARN},
}  # fmt: skip


@pytest.mark.parametrize("name", STAGES)
def test_every_stage(name, tmp_path):
    stages = [STAGES[name], {"stage": "evaluate"}, {"stage": "export", "check_images": 8}]
    recipe = {"model": {"name": "tiny_networks:LeNet"}, "data": {"name": "tiny_networks:images"}, "stages": stages}
    secateur.compress(recipe=recipe, out=tmp_path / "run")
    record = load_record(tmp_path / "run")
    assert record.finished and record.results("evaluate")[-1]["images"] == 32


def test_verbs_of_a_network_of_ones_own(tmp_path):
    torch.manual_seed(0)
    network, images = tiny_networks.LeNet(), tiny_networks.images()
    assert secateur.evaluate(network, images).images == 32
    table = secateur.sensitivity(
        network, images, out=tmp_path / "s", levels=(0.5,), images=16, pattern="filter", criterion="taylor"
    )
    assert {row.layer for row in table.rows} == {"conv1", "conv2", "fc1", "fc2"}
    secateur.export_onnx(network, tmp_path / "m.onnx")
    assert secateur.prune_channels(tmp_path / "m.onnx", tmp_path / "p.onnx", 0.3)
