"""An ONNX file as the subject of reconstruction, run by ONNX Runtime.

What layers get is fetched as additional outputs of the graph, so many images at a time that what is fetched stays
bounded. Padding that an operator before the convolution does is part of what the convolution gets.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, inliner
from torch import Tensor

from secateur.errors import ModelError, PosttrainingError
from secateur.graph import check_model
from secateur.graph.shapes import infer_shapes
from secateur.posttraining.geometry import Geometry
from secateur.posttraining.onnx_layers import OnnxLayers
from secateur.posttraining.onnx_uses import Use
from secateur.posttraining.subject import NOTHING, Subject, Watch
from secateur.sparsity import as_stored, filters_first
from secateur.zoo import Preprocessing

# Inputs of layers that are held at once.
HELD_BYTES = 512 << 20
_SESSIONS = 2


class OnnxSubject(Subject):
    """A model of one image input whose first output has the logits. Read files with `secateur.graph.read_model`.

    model            what has been written so far is in it; it is a copy of the model that was given
    preprocessing    what the network expects of its images; a file does not say
    left_out         layer -> why it cannot be worked on
    raises           ModelError  a damaged model, more than one input, an input that is not the preprocessing's
    """

    def __init__(self, model: onnx.ModelProto, preprocessing: Preprocessing) -> None:
        check_model(model)
        self.model = onnx.ModelProto()
        self.model.CopyFrom(inliner.inline_local_functions(model) if model.functions else model)
        self.preprocessing = preprocessing
        self._input, self._batch, self._type = _input_of(self.model, preprocessing)
        shapes = infer_shapes(self.model, preprocessing.input_size)
        self._found = OnnxLayers(self.model, shapes)
        self.layers = tuple(found.layer for found in self._found.layers.values())
        self.left_out = dict(self._found.left_out)
        self._sessions: dict[tuple[frozenset[str], bool], tuple[onnxruntime.InferenceSession, int]] = {}

    def geometry(self, name: str) -> Geometry:
        first, *others = self.uses(name)
        if any(other.geometry != first.geometry for other in others):
            raise PosttrainingError(
                f"{name}: operators that share its weight walk over their inputs differently; give them tensors of "
                f"their own, or leave the layer out."
            )
        return first.geometry

    def weight(self, name: str) -> Tensor:
        layer = self.layer(name)
        stored = torch.from_numpy(self._found.weight(layer.name))
        return filters_first(stored, layer.kind, layer.groups).contiguous()

    def bias(self, name: str) -> Tensor | None:
        return self.bias_of(self.uses(name)[0])

    def uses(self, name: str) -> list[Use]:
        """The operators that read a layer's weight; `bias` is that of the first one."""
        return self._found.layers[self.layer(name).name].uses

    def bias_of(self, use: Use) -> Tensor | None:
        """(C_out,) what is added to the outputs of one operator, None when nothing constant is."""
        found = self._found.bias(use)
        return None if found is None else torch.from_numpy(found)

    def store_(self, name: str, weight: Tensor, bias: Tensor | None = None, mask: Tensor | None = None) -> None:
        layer = self.layer(name)
        shape = layer.filter_shape
        for given in (weight, *([] if mask is None else [mask])):
            if tuple(given.shape) != shape:
                raise PosttrainingError(
                    f"{name}: has a weight of shape {shape}, filters first, not {tuple(given.shape)}."
                )
        if bias is not None and tuple(bias.shape) != shape[:1]:
            raise PosttrainingError(f"{name}: has {shape[0]} biases, not {tuple(bias.shape)}.")
        self._sessions.clear()
        kept = weight if mask is None else weight.masked_fill(~mask.to(weight.device), 0.0)
        stored = as_stored(kept.detach().float().cpu(), layer.kind, layer.groups)
        self._found.store_weight_(layer.name, stored.contiguous().numpy())
        if bias is not None:
            self._store_bias_(layer.name, bias.detach().float().cpu().numpy())

    def run(self, images: Tensor, watch: Watch = NOTHING, *, stop_early: bool = False) -> Any:
        calls = self._by_layer(watch)
        watched = [(use, calls[name]) for name in calls for use in self.uses(name)]
        place = {node.output[0]: index for index, node in enumerate(self.model.graph.node) if node.output}
        watched.sort(key=lambda entry: place[entry[0].node.output[0]])
        if stop_early and not watched:
            return None
        session, held = self._session(frozenset(use.input for use, _ in watched), stop_early)
        size = max(1, HELD_BYTES // max(1, held))
        if self._batch:
            size = max(self._batch, size - size % self._batch)
        logits: list[Tensor] = []
        for part in images.split(size):
            values = self._values(session, part, [use.input for use, _ in watched], stop_early)
            for (use, called), inputs in zip(watched, values[1:], strict=True):
                for call in called:
                    call(_features_last(use, inputs))
            logits.append(values[0])
        return None if stop_early else torch.cat(logits).flatten(1)

    def copy(self) -> "OnnxSubject":
        """Another one of the same model, whose layers are called as here whatever is stored."""
        other = OnnxSubject(self.model, self.preprocessing)
        for name, found in other._found.layers.items():
            # Without a name it is called after its place, which a bias that is added before it changes.
            found.uses[0].node.name = found.uses[0].node.name or name
        return other

    def name_operators_(self) -> None:
        """Call the operators of every layer after it, so that whoever runs the model names the layers alike."""
        for name, found in self._found.layers.items():
            for use in found.uses:
                use.node.name = name

    def digest(self) -> str:
        return hashlib.sha256(self.model.SerializeToString(deterministic=True)).hexdigest()

    def _store_bias_(self, name: str, bias: np.ndarray) -> None:
        """Operators that share the weight keep the differences between their biases."""
        uses = self.uses(name)
        before = [self._found.bias(use) for use in uses]
        for use, own in zip(uses, before, strict=True):
            shift = bias if before[0] is None else bias - before[0]
            value = bias if use is uses[0] else shift if own is None else own + shift
            self._found.store_bias_(use, value)

    def _session(self, names: frozenset[str], inputs_only: bool) -> tuple[onnxruntime.InferenceSession, int]:
        """A session with these outputs beside the logits, and the bytes that they take for one image."""
        key = (names, inputs_only)
        if key not in self._sessions:
            while len(self._sessions) >= _SESSIONS:
                self._sessions.pop(next(iter(self._sessions)))
            session = self._open(sorted(names - {self._input}), inputs_only)
            batch = self._batch or 1
            probe = self._run(session, np.zeros((batch, *self.input_size), self._type))
            held = sum(value.nbytes for name, value in probe.items() if name in names) // batch
            self._sessions[key] = (session, held)
        return self._sessions[key]

    def _open(self, names: Sequence[str], inputs_only: bool) -> onnxruntime.InferenceSession:
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        outputs = {value.name: value for value in self.model.graph.output}
        del model.graph.output[:]
        if not inputs_only or not names:
            model.graph.output.append(self.model.graph.output[0])
        here = {value.name for value in model.graph.output}
        model.graph.output.extend(outputs.get(n, onnx.ValueInfoProto(name=n)) for n in names if n not in here)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no public base class
            raise PosttrainingError(f"ONNX Runtime cannot load the model: {_first_line(error)}.") from error

    def _values(
        self, session: onnxruntime.InferenceSession, images: Tensor, names: Sequence[str], inputs_only: bool
    ) -> list[Tensor]:
        """The logits (or nothing), then the named values, of all images."""
        pixels = np.ascontiguousarray(images.detach().cpu().numpy(), self._type)
        chunk = self._batch or len(pixels)
        logits = self.model.graph.output[0].name
        wanted = [self._input if inputs_only else logits, *names]
        parts: list[list[np.ndarray]] = [[] for _ in wanted]
        for start in range(0, len(pixels), chunk):
            part = pixels[start : start + chunk]
            missing = chunk - len(part)
            # A file with a fixed batch gets copies of the last image, whose values are cut off again.
            feed = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
            found = {**self._run(session, feed), self._input: feed}
            for kept, name in zip(parts, wanted, strict=True):
                kept.append(found[name][: len(found[name]) * len(part) // chunk])
        return [torch.from_numpy(np.concatenate(kept) if len(kept) > 1 else kept[0]) for kept in parts]

    def _run(self, session: onnxruntime.InferenceSession, feed: np.ndarray) -> dict[str, np.ndarray]:
        try:
            values = session.run(None, {self._input: feed})
        except Exception as error:  # its exceptions share no public base class
            raise PosttrainingError(f"ONNX Runtime cannot run the model: {_first_line(error)}.") from error
        return {output.name: np.asarray(value) for output, value in zip(session.get_outputs(), values, strict=True)}


def _features_last(use: Use, inputs: Tensor) -> Tensor:
    """What a layer gets, with a linear layer's features on the last axis."""
    return inputs.mT if use.rows_last else inputs


def _input_of(model: onnx.ModelProto, preprocessing: Preprocessing) -> tuple[str, int, np.dtype[Any]]:
    """Name, batch (0 where it is open) and type of the image input. raises ModelError."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    if len(inputs) != 1:
        raise ModelError(f"the model has {len(inputs)} inputs; a network of one image input is needed.")
    kind = inputs[0].type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type or onnx.TensorProto.FLOAT)
    sides = [side.dim_value if side.HasField("dim_value") else 0 for side in kind.shape.dim]
    if dtype.kind != "f" or len(sides) != 4:
        raise ModelError(f"input '{inputs[0].name}' is not float images (images, channels, height, width).")
    if any(side not in (0, own) for side, own in zip(sides[1:], preprocessing.input_size, strict=True)):
        raise ModelError(
            f"input '{inputs[0].name}' takes images of {tuple(sides[1:])}; the preprocessing makes "
            f"{preprocessing.input_size}."
        )
    return inputs[0].name, max(sides[0], 0), dtype


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
