"""A torch network as one ONNX file that says the same names.

The file holds the evaluation form of the network: masks folded into the weights, batch norm folded into the
convolution before it (a zero weight times any scale stays zero), input `input`, output `logits`. A
convolution or linear node bears the name of its torch module and its weight the name of its torch parameter,
so that a row of a per-layer table means the same layer everywhere.
"""

import ast
import contextlib
import copy
import json
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import nn
from torch.nn.utils import parametrize

from secateur.errors import ExportError
from secateur.files import atomic_path
from secateur.sparsity.mask import fold_parametrizations_

INPUT_NAME = "input"
OUTPUT_NAME = "logits"

# Protobuf refuses messages of 2 GiB and more; a vision network that large is not a case of this tool.
MAX_FILE_BYTES = 2**31 - 1

_SCOPES_KEY = "pkg.torch.onnx.name_scopes"
_WEIGHTED_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def export_onnx(
    model: nn.Module,
    path: Path | str,
    input_size: Sequence[int],
    *,
    dynamic_batch: bool = True,
    batch: int = 1,
    opset: int = 18,
) -> Path:
    """Write `model` as one ONNX file and return its path; the model itself is left as it is.

    input_size      (channels, height, width) of one image
    dynamic_batch   the first dimension is called `batch` and may have any size; otherwise it is `batch`
    raises          ExportError  when an operator has no ONNX form, or the file would pass 2 GiB
                    DiskError    when it cannot be written
    """
    if len(input_size) != 3 or min(input_size) < 1 or batch < 1:
        raise ExportError(
            f"{path}: an export needs an input size (channels, height, width) and a batch of at least 1, "
            f"got {tuple(input_size)} and {batch}."
        )
    network = folded_copy(model)
    graph = _trace(network, Path(path), tuple(input_size), dynamic_batch, batch, opset)
    _name_biases(graph.graph)
    _name_nodes(graph.graph)
    _strip_debug_information(graph)
    _clear_negative_zeros(graph.graph)
    graph.producer_name = "secateur"
    graph.producer_version = _version()
    graph.metadata_props.update(_metadata(model))
    _write(graph, Path(path))
    return Path(path)


def folded_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` on the CPU, in evaluation mode, whose parametrized weights are plain tensors."""
    network = copy.deepcopy(model).cpu().eval()
    for module in network.modules():
        if parametrize.is_parametrized(module):
            fold_parametrizations_(module)
    return network.requires_grad_(False)


def _trace(
    network: nn.Module, path: Path, input_size: tuple[int, ...], dynamic_batch: bool, batch: int, opset: int
) -> ir.Model:
    # A traced batch of 1 would be taken for a constant, so a dynamic batch is traced with 2.
    example = torch.zeros(2 if dynamic_batch else batch, *input_size)
    dynamic = ({0: torch.export.Dim("batch")},) if dynamic_batch else None
    try:
        with _silence():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                opset_version=opset,
                dynamic_shapes=dynamic,
                verbose=False,
            )
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError) as error:
        raise ExportError(f"{path}: {_explain(error, type(network).__name__)}") from error
    if program is None or len(program.model.graph.outputs) != 1:
        raise ExportError(f"{path}: the network must return one tensor of logits to be exported.")
    return program.model


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The exporter reports steps, warnings and whole graphs; the user wants one sentence or nothing."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _explain(error: BaseException, network: str) -> str:
    """One sentence for a failed export, with the operator named when the exporter knows it."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for cause in reversed(chain):
        operator = re.search(r"OpOverload\(op='([\w.]+)'|target=torch\.ops\.(\w+\.\w+)", str(cause))
        if operator:
            name = operator.group(1) or operator.group(2)
            return f"{network} cannot be exported: operator '{name}' has no ONNX form."
    first_line = next((line.strip() for line in str(chain[-1]).splitlines() if line.strip()), type(error).__name__)
    return f"{network} cannot be exported: {first_line.rstrip('.')}."


def _name_nodes(graph: ir.Graph) -> None:
    """Node names after torch modules, value names after the nodes that make them."""
    taken = {value.name for value in (*graph.inputs, *graph.outputs)} | set(graph.initializers)
    outputs = set(graph.outputs)
    for node in graph:
        node.name = _free_name(_module_of(node), taken)
        for position, value in enumerate(node.outputs):
            if value not in outputs:
                value.name = node.name if position == 0 else _free_name(f"{node.name}:{position}", taken)


def _name_biases(graph: ir.Graph) -> None:
    """A bias that folding made is called after its layer, as a parameter would be."""
    for node in graph:
        bias = node.inputs[2] if node.op_type in _WEIGHTED_OPS and len(node.inputs) > 2 else None
        wanted = f"{_module_of(node)}.bias"
        if bias is not None and bias.is_initializer() and len(bias.uses()) == 1 and wanted not in graph.initializers:
            bias.name = wanted


def _module_of(node: ir.Node) -> str:
    if node.op_type in _WEIGHTED_OPS:
        for value in node.inputs:
            if value is not None and value.name and value.is_initializer() and value.name.endswith(".weight"):
                return value.name.removesuffix(".weight")
    # The exporter writes the list of enclosing modules, the operation last, as a Python literal.
    scopes = ast.literal_eval(node.metadata_props.get(_SCOPES_KEY, "[]"))
    module = scopes[-2] if len(scopes) > 1 else ""
    return f"{module}.{node.op_type}" if module else node.op_type


def _free_name(wanted: str, taken: set[str | None]) -> str:
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    taken.add(name)
    return name


def _strip_debug_information(model: ir.Model) -> None:
    """Drop stack traces and the like: they hold paths of the machine that exported."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
    model.graph.name = "network"
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        values.extend(node.outputs)
    for value in values:
        value.metadata_props.clear()
        value.doc_string = None


def _clear_negative_zeros(graph: ir.Graph) -> None:
    """Folding a negative batch-norm scale makes -0.0 of a zero weight; readers need only one kind of zero."""
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16):
            continue
        array = tensor.numpy()
        if np.any(np.signbit(array) & (array == 0)):
            value.const_value = ir.tensor(array + array.dtype.type(0), name=value.name)


def _metadata(model: nn.Module) -> dict[str, str]:
    entries: dict[str, str] = {"producer": "secateur"}
    preprocessing: Any = getattr(model, "preprocessing", None)
    if preprocessing is not None:
        entries["preprocessing"] = json.dumps(preprocessing.to_dict(), sort_keys=True)
    zoo_name = getattr(model, "zoo_name", None)
    if zoo_name:
        entries["model"] = str(zoo_name)
    return entries


def _version() -> str:
    try:
        return metadata.version("secateur")
    except metadata.PackageNotFoundError:
        return "0"


def _write(model: ir.Model, path: Path) -> None:
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    if size >= MAX_FILE_BYTES:
        raise ExportError(f"{path}: {size:,} bytes of weights do not fit into one ONNX file of at most 2 GiB.")
    proto = ir.to_proto(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path}: the exported graph is not valid ONNX: {str(error).splitlines()[0]}.") from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())
