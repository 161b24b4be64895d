"""Models of opsets that the passes do not read, converted to the oldest that they do.

1. The conversion is that of ONNX; a model that is new enough stays as it is.
2. A Pad that mirrors keeps no `value`: no opset reads it there, and ONNX's conversion would leave it behind as an
   attribute that newer opsets refuse.
3. What cannot be converted is named. What ONNX's converter says is an assertion of its own source, for its authors.
"""

import re

import onnx
from onnx import checker, shape_inference, version_converter

from secateur.errors import ModelError
from secateur.graph.read import one_line

OLDEST_OPSET = 11

_FAILURES = (
    RuntimeError, ValueError, TypeError, IndexError, KeyError, checker.ValidationError, shape_inference.InferenceError,
)  # fmt: skip
# How the converter and the shape inference in it name the operator that ends them.
_NAMED = (re.compile(r"No Adapter .* for (\w+)"), re.compile(r"op_type:\s*(\w+)"))
_ASSERTION = re.compile(r"^\S+:\d+: .*Assertion `.*` failed:\s*")


def opset_of(model: onnx.ModelProto) -> int:
    """Version of ONNX's operators in a model."""
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return versions[0] if versions else onnx.defs.onnx_opset_version()


def converted(model: onnx.ModelProto, wanted: int = OLDEST_OPSET) -> onnx.ModelProto:
    """The model with operators of opset `wanted` or newer. raises ModelError."""
    opset, newest = opset_of(model), onnx.defs.onnx_opset_version()
    if opset > newest:
        raise ModelError(f"the model uses opset {opset}; the installed onnx knows opsets up to {newest}. Update onnx.")
    if opset < 1:
        raise ModelError(f"the model names the opset {opset}, which does not exist.")
    if opset >= wanted:
        return model
    try:
        return version_converter.convert_version(_without_unread(model), wanted)
    except _FAILURES as error:
        raise ModelError(
            f"{_culprit(model.graph, opset, str(error))} cannot be converted to opset {wanted}. "
            f"Export the model again with opset {wanted} or newer."
        ) from error


def reason_of(error: Exception) -> str:
    """The first line of an error of onnx, without the place in its source, fit to end a sentence."""
    lines = _ASSERTION.sub("", str(error).strip()).splitlines()
    return one_line(lines[0]).rstrip(".") if lines and lines[0] else type(error).__name__


def _culprit(graph: onnx.GraphProto, opset: int, said: str) -> str:
    """Rule 3."""
    for node in graph.node:
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type, opset, ""):
            return f"operator {_called(node)}, which opset {opset} does not have,"
    found = next((match[1] for pattern in _NAMED if (match := pattern.search(said))), None)
    for node in graph.node:
        if node.op_type == found:
            return f"operator {_called(node)} of opset {opset}"
    return f"the model, of opset {opset},"


def _called(node: onnx.NodeProto) -> str:
    return one_line(node.op_type) + (f" '{one_line(node.name)}'" if node.name else "")


def _without_unread(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rule 2: a copy, where there is such a Pad."""
    if not any(_unread(node) for node in model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in filter(_unread, copy.graph.node):
        kept = [attribute for attribute in node.attribute if attribute.name != "value"]
        del node.attribute[:]
        node.attribute.extend(kept)
    return copy


def _unread(node: onnx.NodeProto) -> bool:
    modes = [attribute.s for attribute in node.attribute if attribute.name == "mode"]
    return node.op_type == "Pad" and node.domain in ("", "ai.onnx") and modes not in ([], [b"constant"])
