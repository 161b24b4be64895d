"""MobileNetV2 for CIFAR-10, trained from an ImageNet network that exists as an ONNX file only.

    python benchmarks/cifar10_mobilenet_v2.py --onnx mobilenet_v2_100_imagenet.onnx --data imagefolder:DIR --weights DIR

DIR/mobilenet_v2.safetensors is what `cifar10.py channels` starts from. Images are enlarged to 64x64, so that the
network is torchvision's as it is. The batch norms were folded into the file's convolutions; each comes back as what it
is on training images, and changes nothing:

    y = convolution + bias = (convolution - mean) / std * std + (mean + bias)
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import nn

from secateur import api, zoo
from secateur.recipe import build_recipe
from secateur.zoo import metadata_of

NETWORK, SIDE, IMAGES = "mobilenet_v2", 64, 512
OPTIONS = {"classes": 10, "input_size": [3, SIDE, SIDE], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0}


def convolutions(file: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """(weight, bias) of every convolution of an ONNX file, in the order in which they are computed."""
    graph = onnx.load(file).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    return [
        (numpy_helper.to_array(constants[node.input[1]]), numpy_helper.to_array(constants[node.input[2]]))
        for node in graph.node
        if node.op_type == "Conv"
    ]


@torch.no_grad()
def unfold_(network: nn.Module, layers: list[tuple[np.ndarray, np.ndarray]], images: torch.Tensor) -> None:
    """Give `network` the convolutions and, from what they compute of `images`, the norms that change nothing."""
    modules = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for convolution, norm, (weight, bias) in zip(modules, norms, layers, strict=True):
        convolution.weight.copy_(torch.from_numpy(weight.copy()))
        norm.bias.copy_(torch.from_numpy(bias.copy()))
        norm.register_forward_pre_hook(_settle)
    network.eval()(images)
    for norm in norms:
        norm._forward_pre_hooks.clear()


def _settle(norm: nn.Module, inputs: tuple[torch.Tensor]) -> None:
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    variance, mean = torch.var_mean(inputs[0], (0, 2, 3))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.add_(mean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", required=True, type=Path, help="MobileNetV2 of width 1 with folded batch norms")
    parser.add_argument("--data", default="cifar10", help="cifar10, or imagefolder:DIR with train/ and test/")
    parser.add_argument("--weights", required=True, type=Path, help="folder that gets mobilenet_v2.safetensors")
    parser.add_argument("--epochs", default=5, type=int)
    parser.add_argument("--run", type=Path, default=Path("runs/cifar10/mobilenet_v2"))
    options = parser.parse_args()

    network = zoo.model(NETWORK, **OPTIONS)
    preprocessing = zoo.preprocessing_of(network)
    images = zoo.data(options.data)
    batch, _ = next(iter(zoo.loader(images, "train", preprocessing, batch_size=IMAGES)))
    unfold_(network, convolutions(options.onnx), batch)
    training = {"epochs": options.epochs, "batch_size": 128, "learning_rate": 0.02, "warmup_epochs": 0.5}
    stages = [{"stage": "finetune", "training": training}, {"stage": "evaluate"}]
    recipe = build_recipe({"version": 1, "model": {"name": NETWORK}, "data": {"name": options.data}, "stages": stages})
    result = api.compress(network, images, recipe, out=options.run)
    state = {name: tensor.contiguous() for name, tensor in result.network.state_dict().items()}
    save_file(state, options.weights / f"{NETWORK}.safetensors", metadata_of(network))


if __name__ == "__main__":
    main()
