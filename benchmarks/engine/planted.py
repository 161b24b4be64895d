"""Networks as they are measured: random weights, activations of sensible size, zeros where they were asked for.

    settle_(module)                    every batch norm gets the statistics of its own input
    plant(proto, "1x4", 0.8)           a copy of an ONNX model with that many zeros
    realistic_onnx("resnet50", file)   a file with both, exported by secateur.export_onnx

Random weights show speed, never accuracy. Statistics matter even so: with those of initialisation activations grow or
vanish from layer to layer, and infinities, zeros and denormals change the time of a run.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

# unstructured, or 1xN: N neighbouring output channels share their zeros, position by position (1xN-fine of the product)
# or, with -kernels, by whole kernels; channels: whole output channels are zero;
# 4-in: 4 neighbouring input channels of one output share their zeros, 4x4-in: those of 4 neighbouring outputs
IN_BLOCKS = {"4-in": 1, "4x4-in": 4}
KERNELS = "-kernels"
BLOCKS = tuple(f"1x{n}" for n in (2, 4, 8, 16, 32))
PATTERNS = ("unstructured", *BLOCKS, *(blocks + KERNELS for blocks in BLOCKS), "channels", *IN_BLOCKS)


def settle_(module: "torch.nn.Module", size: tuple[int, int, int], images: int = 8, seed: int = 0) -> None:  # noqa: F821
    """Give every batch norm mean and variance of its input on random images, and scales around one, in place.

    Weights that initialisation left at zero, as those of classifiers of vision transformers, become random.

    size    (channels, height, width)
    """
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim > 1 and not weight.any():
                weight.normal_(0.0, 0.02, generator=generator)
    norms = [each for each in module.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    kept = [(norm, norm.momentum) for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
        if norm.affine:
            with torch.no_grad():
                norm.weight.uniform_(0.5, 1.5, generator=generator)
                norm.bias.uniform_(-0.3, 0.3, generator=generator)
    with torch.inference_mode():
        module(torch.randn(images, *size, generator=generator))
    for norm, momentum in kept:
        norm.momentum = momentum
    module.eval()


def realistic_onnx(name: str, path: Path, size: tuple[int, int, int] | None = None, seed: int = 0) -> Path:
    """An ONNX file of a network of the zoo with random weights.

    size      (channels, height, width); what the network was made for when not given
    raises    ModelError, ExportError
    """
    import secateur

    module = secateur.model(name, seed=seed, **({"input_size": size} if size else {}))
    settle_(module, secateur.zoo.preprocessing_of(module).input_size, seed=seed)
    return secateur.export_onnx(module, path)


def plant(
    proto: onnx.ModelProto,
    pattern: str,
    sparsity: float,
    *,
    operators: Collection[str] = ("Conv",),
    stem: bool = False,
    seed: int = 0,
) -> onnx.ModelProto:
    """A copy of a model with zeros at random places, the same share in every layer.

    sparsity     share of zeros in each pruned layer
    operators    whose weights get zeros: Conv, and also Gemm or MatMul for those of linear layers
    stem         also prune the first layer. Depthwise and grouped convolutions always stay dense
    """
    if pattern not in PATTERNS:
        raise ValueError(f"Pattern '{pattern}' is unknown; it can be {', '.join(PATTERNS)}.")
    if not 0 <= sparsity <= 1:
        raise ValueError(f"A sparsity of {sparsity} is impossible; it is a share from 0 to 1.")
    planted = onnx.ModelProto()
    planted.CopyFrom(proto)
    rng = np.random.default_rng(seed)
    for tensor, outputs_first in _prunable(planted, operators, stem):
        weight = numpy_helper.to_array(tensor)
        weight = weight if outputs_first else weight.T
        mask = _mask(rng, weight.shape, pattern, sparsity)
        # Zeros of initialisation would make a layer sparser than it was asked to be. What stays is scaled, so that
        # sums keep their size.
        weight = np.where(weight == 0, np.float32(1e-3), weight) / np.sqrt(max(mask.mean(), 1e-3), dtype=np.float32)
        weight = np.where(mask, weight, np.float32(0))
        weight = np.ascontiguousarray(weight if outputs_first else weight.T, np.float32)
        tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    return planted


def pruned_share(proto: onnx.ModelProto) -> float:
    """Share of zeros among all weights of convolutions that are neither grouped nor the first."""
    weights = [numpy_helper.to_array(tensor) for tensor, _ in _prunable(proto, ("Conv",), stem=False)]
    total = sum(weight.size for weight in weights)
    return 1 - sum(np.count_nonzero(weight) for weight in weights) / total if total else 0.0


def _prunable(
    proto: onnx.ModelProto, operators: Collection[str], stem: bool
) -> Iterator[tuple[onnx.TensorProto, bool]]:
    """Weights to prune, and whether output channels are their first side."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    seen: set[str] = set()
    layers = [node for node in proto.graph.node if node.op_type in operators and len(node.input) > 1]
    layers = [node for node in layers if node.input[1] in constants]
    for node in layers if stem else layers[1:]:
        tensor = constants[node.input[1]]
        options = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        if options.get("group", 1) != 1 or tensor.name in seen or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        seen.add(tensor.name)
        yield tensor, node.op_type == "Conv" or bool(options.get("transB", 0))


def _mask(rng: np.random.Generator, shape: tuple[int, ...], pattern: str, sparsity: float) -> np.ndarray:
    """Which weights stay, with an exact number of zero blocks."""
    if pattern == "channels":
        return np.broadcast_to(_exact(rng, (shape[0],), sparsity).reshape(-1, *(1,) * (len(shape) - 1)), shape)
    if pattern in IN_BLOCKS:
        rows = IN_BLOCKS[pattern]
        blocks = _exact(rng, (-(-shape[0] // rows), -(-shape[1] // 4), *shape[2:]), sparsity)
        return np.repeat(np.repeat(blocks, rows, axis=0)[: shape[0]], 4, axis=1)[:, : shape[1]]
    rows = 1 if pattern == "unstructured" else int(pattern.removesuffix(KERNELS)[2:])
    sides = shape[1:2] if pattern.endswith(KERNELS) else shape[1:]
    blocks = _exact(rng, (-(-shape[0] // rows), *sides), sparsity)
    mask = np.repeat(blocks, rows, axis=0)[: shape[0]]
    return np.broadcast_to(mask.reshape(*mask.shape, *(1,) * (len(shape) - mask.ndim)), shape)


def _exact(rng: np.random.Generator, shape: Iterable[int], sparsity: float) -> np.ndarray:
    shape = tuple(shape)
    kept = np.ones(int(np.prod(shape)), bool)
    kept[: round(sparsity * kept.size)] = False
    rng.shuffle(kept)
    return kept.reshape(shape)
