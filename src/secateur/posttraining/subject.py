"""The network that is worked on, behind one interface: a torch module or an ONNX file.

What reconstructs layers needs four things of a network: its layers and their weights filter first, what each layer gets
when images run through it, the outputs, and a way to write weights back.

    grams = {}
    subject.run(images, {"layer1.0.conv1": lambda x: grams.add(x, subject.geometry("layer1.0.conv1"))})
    subject.store_("layer1.0.conv1", weight, mask=mask)
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, overload

from torch import Tensor

from secateur.errors import SparsityError
from secateur.posttraining.geometry import Geometry
from secateur.registry import unknown
from secateur.sparsity import Layer
from secateur.zoo import Preprocessing

Watch = Mapping[str, Callable[[Tensor], None]]
NOTHING: Watch = MappingProxyType({})


class Subject(ABC):
    """A network with named layers. Everything that takes a name takes one of a layer that shares the tensor too.

    layers           every convolution and linear layer, each tensor once, under the name of the first that uses it
    preprocessing    what the network expects of its images
    """

    layers: tuple[Layer, ...]
    preprocessing: Preprocessing

    @property
    def input_size(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return self.preprocessing.input_size

    def layer(self, name: str) -> Layer:
        """The layer of that name, also when the name is one of those that share its weight. raises SparsityError."""
        for layer in self.layers:
            if name == layer.name or name in layer.shared:
                return layer
        raise SparsityError(unknown("layer", name, [layer.name for layer in self.layers]))

    @abstractmethod
    def geometry(self, name: str) -> Geometry:
        """How the layer walks over its input.

        raises    PosttrainingError  layers that share the weight walk differently, so that no one Gram is of both
        """

    @abstractmethod
    def weight(self, name: str) -> Tensor:
        """What the layer computes with: a float32 copy, filter first, masks and other parametrizations applied."""

    @abstractmethod
    def bias(self, name: str) -> Tensor | None:
        """(C_out,) a float32 copy of the bias, None where the layer has none."""

    @abstractmethod
    def store_(self, name: str, weight: Tensor, bias: Tensor | None = None, mask: Tensor | None = None) -> None:
        """Write a layer back; afterwards `weight(name)` is `weight`, with zeros where `mask` is not True.

        weight    filter first, the shape of `weight(name)`
        bias      (C_out,); None leaves the bias as it is; a layer without bias gains one. Layers that share the weight
                  but have biases of their own are shifted by the same amount
        mask      boolean, the shape of `weight`, True = kept. None: a mask that the layer has opens where the new
                  weight is not zero, and stays as it is elsewhere
        raises    PosttrainingError  another shape, or a weight that cannot be written
        """

    @overload
    def run(self, images: Tensor, watch: Watch = ..., *, stop_early: Literal[False] = False) -> Tensor: ...

    @overload
    def run(self, images: Tensor, watch: Watch = ..., *, stop_early: bool) -> Tensor | None: ...

    @abstractmethod
    def run(self, images: Tensor, watch: Watch = NOTHING, *, stop_early: bool = False) -> Tensor | None:
        """(images, classes) logits, in evaluation mode and without gradients.

        images        (images, channels, height, width), prepared
        watch         layer name -> called with the layer's input each time that the layer runs. It is what the operator
                      gets: before its own padding, after any other. Who keeps it keeps a copy, and changes nothing in
                      it: the network goes on with it
        stop_early    end after the last watched layer has got its input; None is returned. Which call is the last is
                      learned from one image, so the network must do the same for all images
        """

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of all that the outputs depend on: structure, weights, masks, running statistics."""

    def order(self, images: Tensor) -> list[str]:
        """Names of the layers in the order in which they first run; those that are not reached are missing."""
        seen: dict[str, None] = {}
        self.run(images[:1], {layer.name: _Note(seen, layer.name) for layer in self.layers})
        return list(seen)

    def _by_layer(self, watch: Watch) -> dict[str, list[Callable[[Tensor], None]]]:
        """The callbacks under the names of their layers."""
        calls: dict[str, list[Callable[[Tensor], None]]] = {}
        for name, call in watch.items():
            calls.setdefault(self.layer(name).name, []).append(call)
        return calls


class _Note:
    """Writes a name down."""

    def __init__(self, seen: dict[str, None], name: str) -> None:
        self._seen, self._name = seen, name

    def __call__(self, _inputs: Tensor) -> None:
        self._seen.setdefault(self._name)
