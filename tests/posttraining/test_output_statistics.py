"""Mean and variance of outputs follow from the Gram exactly."""

import pytest
import torch
from torch import nn

from secateur.errors import PosttrainingError
from secateur.posttraining.geometry import geometry_of
from secateur.posttraining.gram import GramSum
from secateur.posttraining.output_statistics import output_mean, output_variance


def cases():
    yield nn.Conv2d(4, 6, 3, padding=1, stride=2), (5, 4, 9, 8)
    yield nn.Conv2d(4, 8, 3, groups=4, padding=(2, 1), dilation=2), (5, 4, 9, 8)
    yield nn.Conv2d(4, 6, (3, 1), groups=2, padding="same", padding_mode="circular"), (5, 4, 9, 8)
    yield nn.Conv1d(4, 6, 3), (5, 4, 9)
    yield nn.Linear(4, 6), (5, 3, 4)


@pytest.mark.parametrize(("layer", "shape"), list(cases()), ids=lambda value: type(value).__name__)
def test_they_are_those_of_the_outputs(layer, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 1.0
    total = GramSum()
    for part in x.split(2):
        total.add(part, geometry_of(layer))
    with torch.no_grad():
        layer.bias.zero_()
        y = layer(x)
    y = y.flatten(0, -2).T if isinstance(layer, nn.Linear) else y.transpose(0, 1).flatten(1)
    y = y.double()
    gram = total.result()
    torch.testing.assert_close(output_mean(layer.weight.detach(), gram), y.mean(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        output_variance(layer.weight.detach(), gram), y.var(1, correction=0), atol=1e-5, rtol=1e-4
    )
    with pytest.raises(PosttrainingError, match="Gram of"):
        output_mean(torch.zeros(5, 7), gram)
