"""An ONNX file as a torch network that can be trained, its layers found again in the file.

1. What depends on no input is computed first, so that weights, biases and bounds are stored tensors.
2. A fixed batch is made free: the number that a Reshape with constant sides begins with is 0, "as it comes". That a
   0 may also mean none at all (allowzero), which torch always writes, is left out where no side is 0.
   Operators are read as those of opset 17, the newest that onnx2torch knows: axes of means are attributes.
3. A convolution is torch's; a product with a constant is a linear layer, its bias in it, whichever way round the file
   stores and multiplies it. Operators that share a weight share it here.
4. What `OnnxSubject.store_` can write trains: the weights of layers, and the biases of layers with one operator. All
   else - batch norms, slopes, terms of sums, layers that are not found - stays as the file has it.
5. Operators are matched by names that are given to them for it, weights must be equal to the file's, and the twin must
   answer like ONNX Runtime.

The conversion of operators is onnx2torch's; the rest is our own design.
"""

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import helper, numpy_helper
from torch import Tensor, fx, nn

from secateur.errors import PosttrainingError
from secateur.export.check import TOLERANCE
from secateur.graph.constants import Constants
from secateur.posttraining.onnx_uses import Use
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.posttraining.subject_torch import TorchSubject
from secateur.quantization.prepare import fold_constants_
from secateur.sparsity import as_stored
from secateur.zoo.torchvision_guard import import_torchvision

OPSET = 17


@dataclass(frozen=True, eq=False)
class Twin:
    """The network, and its layers that train.

    module     images -> logits (images, classes), in evaluation mode
    names      layer of the file -> its module here, the first one of those that share a weight
    """

    module: fx.GraphModule
    names: Mapping[str, str]


class Product(nn.Linear):
    """The product of a weight and a value that may lie the other way round.

    rows_last    the features of the value are its last but one axis
    turned       so are those of the product
    output_axis  where they are
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, rows_last: bool, turned: bool) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias is not None, device="meta")
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.rows_last, self.turned = rows_last, turned
        self.output_axis = -2 if turned else -1

    def forward(self, input: Tensor) -> Tensor:
        product = super().forward(input.mT if self.rows_last else input)
        return product.mT if self.turned else product


def twin_of(subject: OnnxSubject) -> Twin:
    """The file as it is now. raises PosttrainingError, one sentence that says why there is none"""
    model = onnx.ModelProto()
    model.CopyFrom(subject.model)
    place = {node.output[0]: index for index, node in enumerate(model.graph.node) if node.output}
    uses = {layer.name: subject.uses(layer.name) for layer in subject.layers}
    for index, node in enumerate(model.graph.node):
        node.name = _name(index)
    model = _prepared(model)
    module = _converted(model)
    module.requires_grad_(False)
    names: dict[str, str] = {}
    for layer in subject.layers:
        weight = as_stored(subject.weight(layer.name), layer.kind, layer.groups)
        found = [_grafted(module, use, place, weight, subject.bias_of(use)) for use in uses[layer.name]]
        if None in found:
            continue
        modules = [cast(Any, module.get_submodule(cast(str, name))) for name in found]
        first = modules[0]
        for other in modules[1:]:
            other.weight = first.weight
        first.weight.requires_grad_(True)
        if len(modules) == 1 and first.bias is not None:
            first.bias.requires_grad_(True)
        names[layer.name] = cast(str, found[0])
    if not names:
        raise PosttrainingError("none of its layers is found again in the torch network that onnx2torch makes of it.")
    _finish_(module)
    return Twin(module.eval(), names)


def check_twin(twin: Twin, subject: OnnxSubject, images: Tensor) -> None:
    """Whether both answer alike. raises PosttrainingError"""
    expected = subject.run(images).float()
    try:
        actual = TorchSubject(twin.module, subject.preprocessing).run(images).float()
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, NotImplementedError) as error:
        raise PosttrainingError(f"the torch network made of it cannot run {len(images)} images: {_line(error)}.") from (
            error
        )
    if actual.shape != expected.shape:
        raise PosttrainingError(
            f"the torch network made of it gives {tuple(actual.shape)} numbers, ONNX Runtime {tuple(expected.shape)}."
        )
    error, scale = float((expected - actual).abs().max()), float(expected.abs().max())
    if not error <= TOLERANCE * scale:
        raise PosttrainingError(
            f"the outputs of the torch network made of it differ from ONNX Runtime's by {error / (scale or 1.0):.1e} "
            "of the largest one."
        )


def _name(index: int) -> str:
    return f"op{index}"


def _prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """One output, a batch that is free, no constants behind operators."""
    graph = model.graph
    del graph.output[1:]
    del graph.value_info[:]
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    del graph.input[:]
    graph.input.extend(inputs)
    if any(value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT for value in graph.input):
        raise PosttrainingError("its images are not of type float32, in which alone networks are tuned.")
    model.ir_version = max(model.ir_version, 8)
    read = ir.from_proto(model)
    fold_constants_(read)
    model = ir.to_proto(read)
    _as_opset_(model)
    _plain_sides_(model)
    first = inputs[0].type.tensor_type.shape.dim[0]
    if first.dim_value:
        _free_batch_(model, first.dim_value)
    return model


def _as_opset_(model: onnx.ModelProto) -> None:
    """Newer opsets as `OPSET`; whether that is the same function, comparing outputs tells."""
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx") or entry.version <= OPSET:
            continue
        entry.version = OPSET
        constants = Constants(model.graph)
        for node in model.graph.node:
            if not node.op_type.startswith("Reduce") or node.op_type == "ReduceSum" or len(node.input) < 2:
                continue
            axes = constants.find(node.input[1])
            if axes is not None:
                del node.input[1:]
                node.attribute.append(helper.make_attribute("axes", axes.array.reshape(-1).tolist()))


def _plain_sides_(model: onnx.ModelProto) -> None:
    constants = Constants(model.graph)
    for node in model.graph.node:
        if node.op_type != "Reshape":
            continue
        target = constants.find(node.input[1])
        if target is None or np.all(target.array):
            kept = [held for held in node.attribute if held.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(kept)


def _free_batch_(model: onnx.ModelProto, batch: int) -> None:
    """Sides of values are known no more; reshaping keeps the batch that comes."""
    graph = model.graph
    for value in graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    del graph.value_info[:]
    constants = Constants(graph)
    for index, node in enumerate(graph.node):
        if node.op_type != "Reshape":
            continue
        target = constants.find(node.input[1])
        if target is None or target.array.ndim != 1 or not len(target.array) or target.array[0] != batch:
            continue
        sides = np.array([0, *target.array[1:]], np.int64)
        name = f"secateur.sides{index}"
        graph.initializer.append(numpy_helper.from_array(sides, name))
        node.input[1] = name


def _converted(model: onnx.ModelProto) -> fx.GraphModule:
    import_torchvision("ops")
    try:
        converter = importlib.import_module("onnx2torch")
    except ModuleNotFoundError as error:
        raise PosttrainingError(f"onnx2torch is not installed ({error}); install secateur[torch].") from error
    # How it takes slices; should torch ever take them otherwise, comparing outputs tells.
    warnings.filterwarnings("ignore", "Using a non-tuple sequence", UserWarning, r"onnx2torch\.")
    try:
        return converter.convert(model)
    except Exception as error:  # what it raises for operators that it does not know shares no base class
        raise PosttrainingError(f"onnx2torch cannot make a torch network of it: {_line(error)}.") from error


def _grafted(
    module: fx.GraphModule, use: Use, place: Mapping[str, int], weight: Tensor, bias: Tensor | None
) -> str | None:
    """The name of the module that one operator has become, None where it is not found or has another weight."""
    name = _name(place[use.node.output[0]])
    node = _call(module, name)
    if node is None:
        return None
    found = module.get_submodule(name)
    if use.geometry.kind == "linear":
        return _product(module, node, use, place, weight, bias)
    if isinstance(found, nn.Sequential):  # padding that torch's convolution cannot do stands before it
        name, found = f"{name}.1", found[1]
    own = getattr(found, "weight", None)
    return name if isinstance(own, nn.Parameter) and _equal(own, weight) else None


def _product(
    module: fx.GraphModule, node: fx.Node, use: Use, place: Mapping[str, int], weight: Tensor, bias: Tensor | None
) -> str | None:
    """A product in place of what it was converted to, and of the sum behind that adds its bias."""
    found = module.get_submodule(str(node.target))
    last = node
    if isinstance(found, nn.Linear):
        stored, source = found.weight, node.args[0]
    else:
        stored, source = _stored(module, node.args[use.weight]), node.args[1 - use.weight]
        if stored is None:
            return None
        matrix = stored.reshape(stored.shape[-2:])
        stored = (matrix.T if use.swapped else matrix) * use.alpha
        if use.node.op_type == "Gemm" and len(use.node.input) > 2 and use.node.input[2] and use.bias is None:
            return None
    if use.bias is not None and use.bias[0].op_type == "Add":
        adds = _call(module, _name(place[use.bias[0].output[0]]))
        if adds is None or node not in adds.args or len(node.users) != 1:
            return None
        last = adds
    if not _equal(stored, weight):
        return None
    name = f"{node.target}_product"
    module.add_submodule(name, Product(weight, bias, use.rows_last, use.weight == 0))
    with module.graph.inserting_after(last):
        product = module.graph.call_module(name, (source,))
    last.replace_all_uses_with(product)
    for old in dict.fromkeys((last, node)):
        module.graph.erase_node(old)
    return name


def _call(module: fx.GraphModule, target: str) -> fx.Node | None:
    return next((node for node in module.graph.nodes if node.op == "call_module" and node.target == target), None)


def _stored(module: fx.GraphModule, value: Any) -> Tensor | None:
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        return None
    return module.get_buffer(str(value.target))


def _equal(own: Tensor, weight: Tensor) -> bool:
    return own.dtype == weight.dtype and torch.equal(own.detach(), weight)


def _finish_(module: fx.GraphModule) -> None:
    """Logits as (images, classes); nothing is kept that nobody reads."""
    output = next(node for node in module.graph.nodes if node.op == "output")
    value = output.args[0]
    if not isinstance(value, fx.Node):
        raise PosttrainingError("the torch network made of it has more than one output.")
    with module.graph.inserting_before(output):
        output.args = (module.graph.call_method("flatten", (value, 1)),)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    read = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in module.named_buffers() if name.startswith("initializers.") and name not in read]:
        delattr(module.get_submodule("initializers"), name.removeprefix("initializers."))


def _line(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return f"{type(error).__name__} {first}".strip()
