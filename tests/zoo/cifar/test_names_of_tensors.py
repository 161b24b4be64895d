"""Published files must load as they are: the tensors are named and shaped as theirs."""

import pytest

from secateur.zoo import model


def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    counters = "num_batches_tracked"
    state = model(name).state_dict()
    return {key: tuple(value.shape) for key, value in state.items() if not key.endswith(counters)}


@pytest.mark.parametrize(
    ("name", "tensors", "some"),
    [
        (
            "resnet20_cifar10",
            97,
            {
                "conv1.weight": (16, 3, 3, 3),
                "layer3.0.conv1.weight": (64, 32, 3, 3),
                "linear.weight": (10, 64),
            },
        ),
        ("resnet56_cifar10", 277, {"layer2.8.bn2.running_var": (32,), "linear.bias": (10,)}),
        (
            "resnet20b_cifar10",
            107,
            {
                "layer2.0.downsample.0.weight": (32, 16, 1, 1),
                "layer3.0.downsample.1.weight": (64,),
                "fc.weight": (10, 64),
            },
        ),
        (
            "shufflenetv2_x0_5_cifar10",
            282,
            {
                "conv1.0.weight": (24, 3, 3, 3),
                "stage2.0.branch1.0.weight": (24, 1, 3, 3),
                "stage3.7.branch2.5.weight": (48, 48, 1, 1),
                "stage4.3.branch2.6.bias": (96,),
                "conv5.0.weight": (1024, 192, 1, 1),
                "fc.weight": (10, 1024),
            },
        ),
        ("resnet18_cifar10", 102, {"conv1.weight": (64, 3, 3, 3), "layer4.1.conv2.weight": (512, 512, 3, 3)}),
        ("vgg16_cifar10", 73, {"features.0.weight": (64, 3, 3, 3), "classifier.3.weight": (10, 512)}),
        (
            "mobilenet_v2_cifar10",
            262,
            {"features.0.0.weight": (32, 3, 3, 3), "classifier.1.weight": (10, 1280)},
        ),
        ("mobilenet_v1_cifar10", 137, {"blocks.12.pointwise.weight": (1024, 1024, 1, 1)}),
        (
            "mobilenet_v1_075_imagenet",
            137,
            {
                "stem.conv.weight": (24, 3, 3, 3),
                "blocks.6.depthwise.weight": (384, 1, 3, 3),
                "blocks.12.pointwise_bn.running_mean": (768,),
                "classifier.weight": (1000, 768),
            },
        ),
    ],
)
def test_names_and_shapes(name: str, tensors: int, some: dict[str, tuple[int, ...]]) -> None:
    shapes = _shapes(name)
    assert len(shapes) == tensors
    assert {key: shapes.get(key) for key in some} == some
