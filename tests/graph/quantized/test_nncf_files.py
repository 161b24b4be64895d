"""Files that NNCF writes, where it is installed."""

import pytest

from quantized_graphs import integer_ops, read
from quantized_networks import NETWORKS, Images, agree


@pytest.mark.parametrize("network", ["residual", "depthwise"])
def test_files_of_nncf(network: str):
    nncf = pytest.importorskip("nncf")
    images = nncf.Dataset(list(iter(Images().get_next, None)))
    model = nncf.quantize(NETWORKS[network](), images, subset_size=4, fast_bias_correction=True)
    graph = read(model)
    ops = integer_ops(graph)
    # NNCF leaves the products of squeeze-and-excitation to floats.
    assert ops.count("QConv") + ops.count("QLinear") >= 3, ops
    assert not {"[QuantizeLinear]", "[DequantizeLinear]"} & set(ops)
    agree(model, graph, share=0.0, most=3)
