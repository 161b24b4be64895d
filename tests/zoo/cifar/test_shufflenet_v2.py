import torch

from secateur.zoo import model
from secateur.zoo.cifar.shufflenet_v2 import shuffle_two_groups


def test_shuffle_interleaves_the_halves() -> None:
    x = torch.arange(6.0).reshape(1, 6, 1, 1).expand(2, 6, 3, 2)
    assert shuffle_two_groups(x)[0, :, 0, 0].tolist() == [0, 3, 1, 4, 2, 5]


def test_batch_is_the_only_open_size_of_the_exported_graph() -> None:
    module = model("shufflenetv2_x0_5_cifar10")
    program = torch.export.export(
        module, (torch.zeros(2, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    for node in program.graph.nodes:
        sizes = getattr(node.meta.get("val"), "shape", ())
        assert all(isinstance(size, int) for size in sizes[1:]), node
    x = torch.rand(5, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(program.module(check_guards=False)(x), module(x))
