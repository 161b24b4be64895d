"""A torch network as the subject of reconstruction."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from secateur.errors import PosttrainingError
from secateur.posttraining.geometry import Geometry, geometry_of
from secateur.posttraining.subject import NOTHING, Subject, Watch
from secateur.sparsity import Layer, as_stored, attach_masks_, filters_first, layers_of, masks, set_mask_, unwrapped
from secateur.sparsity.census import evaluating
from secateur.sparsity.layers import stored_weight, weighted_modules
from secateur.sparsity.mask import Mask, fold_parametrizations_
from secateur.sparsity.memory_layout import layout_for, with_layout
from secateur.zoo import Preprocessing, preprocessing_of


class TorchSubject(Subject):
    """A module on whatever device it lies. It is changed in place by `store_`, and by nothing else.

    model            the network itself, DistributedDataParallel taken off
    preprocessing    by default `model.preprocessing`
    raises           ModelError  the network does not say how its images are prepared
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing | None = None) -> None:
        self.model = unwrapped(model)
        self.preprocessing = preprocessing or preprocessing_of(self.model)
        self.layers = layers_of(self.model)
        self._modules = weighted_modules(self.model)
        self._trace: list[str] | None = None
        self._layout: torch.memory_format | None = None

    def geometry(self, name: str) -> Geometry:
        layer = self.layer(name)
        first, *others = [geometry_of(module) for module in self._users(layer)]
        if any(other != first for other in others):
            raise PosttrainingError(
                f"{layer.name}: shares its weight with {', '.join(layer.shared)}, which walk over their inputs "
                f"differently; give the layers tensors of their own, or leave them out."
            )
        return first

    @torch.no_grad()
    def weight(self, name: str) -> Tensor:
        layer = self.layer(name)
        stored = cast(Tensor, self._modules[layer.name].weight)
        return filters_first(stored, layer.kind, layer.groups).to(torch.float32, copy=True)

    @torch.no_grad()
    def bias(self, name: str) -> Tensor | None:
        found = cast(Tensor | None, self._modules[self.layer(name).name].bias)
        return None if found is None else found.to(torch.float32, copy=True)

    @torch.no_grad()
    def store_(self, name: str, weight: Tensor, bias: Tensor | None = None, mask: Tensor | None = None) -> None:
        layer = self.layer(name)
        self._check(layer, weight, bias, mask)
        for module in self._users(layer):
            _make_writable_(layer, module)
        values = as_stored(weight, layer.kind, layer.groups)
        targets = {id(stored): stored for stored in map(stored_weight, self._users(layer))}
        for stored in targets.values():
            stored.copy_(values)
        if mask is not None:
            attach_masks_(self.model, [layer.name, *layer.shared])
        kept = masks(self.model) if mask is not None or parametrize.is_parametrized(self._users(layer)[0]) else {}
        for user, module in zip((layer.name, *layer.shared), self._users(layer), strict=True):
            if user in kept:
                kept_now = kept[user] | (stored_weight(module) != 0)
                chosen = kept_now if mask is None else as_stored(mask, layer.kind, layer.groups).to(kept_now.device)
                set_mask_(module, chosen)
        if bias is not None:
            self._store_bias_(layer, bias)

    @torch.no_grad()
    def run(self, images: Tensor, watch: Watch = NOTHING, *, stop_early: bool = False) -> Any:
        calls = self._by_layer(watch)
        if stop_early and not calls:
            return None
        left = -1
        if stop_early:
            if self._trace is None:
                self._trace = self._traced(images[:1])
            left = sum(name in calls for name in self._trace)

        def got(name: str, inputs: Tensor) -> None:
            nonlocal left
            for call in calls.get(name, ()):
                call(inputs)
            if name in calls:
                left -= 1
                if left == 0:
                    raise _EnoughError

        if left == 0:  # none of the watched layers is reached
            return None
        try:
            logits = self._forward(images, got if calls else None)
        except _EnoughError:
            return None
        return None if stop_early else logits

    def digest(self) -> str:
        total = hashlib.sha256(repr(self.model).encode())
        for name, tensor in self.model.state_dict().items():
            total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return total.hexdigest()

    def _users(self, layer: Layer) -> list[nn.Module]:
        return [self._modules[name] for name in (layer.name, *layer.shared)]

    def _check(self, layer: Layer, weight: Tensor, bias: Tensor | None, mask: Tensor | None) -> None:
        shape = layer.filter_shape
        if tuple(weight.shape) != shape or (mask is not None and tuple(mask.shape) != shape):
            given = tuple(weight.shape) if tuple(weight.shape) != shape else tuple(cast(Tensor, mask).shape)
            raise PosttrainingError(f"{layer.name}: has a weight of shape {shape}, filters first, not {given}.")
        if bias is not None and tuple(bias.shape) != shape[:1]:
            raise PosttrainingError(f"{layer.name}: has {shape[0]} biases, not {tuple(bias.shape)}.")

    def _store_bias_(self, layer: Layer, bias: Tensor) -> None:
        """Layers that share the weight keep the differences between their biases."""
        before = self.bias(layer.name)
        seen: set[int] = set()
        for module in self._users(layer):
            if parametrize.is_parametrized(module, "bias"):
                raise PosttrainingError(
                    f"{layer.name}: its bias is parametrized; make it a plain one with "
                    "torch.nn.utils.parametrize.remove_parametrizations first."
                )
            own = cast(nn.Parameter | None, module.bias)
            like = stored_weight(module)
            if own is not None and id(own) in seen:
                continue
            value = bias.to(like.device, torch.float32)
            if module is not self._modules[layer.name]:
                shift = value if before is None else value - before.to(value.device)
                value = shift if own is None else own.float() + shift
            if own is None:
                own = nn.Parameter(value.to(like.dtype, copy=True))
                module.bias = own
            else:
                own.copy_(value)
            seen.add(id(own))

    def _forward(self, images: Tensor, got: Callable[[str, Tensor], None] | None) -> Tensor:
        like = next((p for p in self.model.parameters() if p.is_floating_point()), images)
        images = images.to(like.device, like.dtype)
        if self._layout is None:
            # The weights stay as they lie: channels-last images alone bring most of what the layout gains.
            self._layout = layout_for([self.model], images, weights=False)
        images = with_layout(images, self._layout)
        with self._hooked(got), evaluating(self.model), parametrize.cached():
            logits = self.model(images)
        if not isinstance(logits, Tensor):
            raise PosttrainingError(
                f"{type(self.model).__name__}: returns a {type(logits).__name__} in evaluation mode; "
                "a network that returns its logits alone is needed."
            )
        return logits.flatten(1)

    @contextlib.contextmanager
    def _hooked(self, got: Callable[[str, Tensor], None] | None) -> Iterator[None]:
        def entering(name: str) -> Any:
            def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                if got is not None:
                    got(name, cast(Tensor, args[0] if args else kwargs["input"]))

            return hook

        handles: list[Any] = []
        if got is not None:
            handles = [
                module.register_forward_pre_hook(entering(layer.name), with_kwargs=True)
                for layer in self.layers
                for module in self._users(layer)
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _traced(self, image: Tensor) -> list[str]:
        """Every call of a layer, in order."""
        trace: list[str] = []
        self._forward(image, lambda name, _inputs: trace.append(name))
        return trace


class _EnoughError(Exception):
    """All that was watched has been seen; ends the forward pass."""


def _make_writable_(layer: Layer, module: nn.Module) -> None:
    """Leave at most a mask between the parameter and the weight: others cannot be given a weight with zeros."""
    if parametrize.is_parametrized(module, "weight"):
        chain = cast(nn.ModuleDict, module.parametrizations)["weight"]
        if [type(step) for step in chain.children()] != [Mask]:
            fold_parametrizations_(module)
    elif not isinstance(module.weight, nn.Parameter):
        raise PosttrainingError(
            f"{layer.name}: its weight is computed anew before each run (torch's old weight_norm or spectral_norm); "
            "take that off with torch.nn.utils.remove_weight_norm or remove_spectral_norm first."
        )
