"""What a network holds and what it costs: the counts of its layers, summed up, compared and shown as tables.

    sparsity             s   = zeros / total
    parameter reduction  r_p = weights / nonzeros
    compute reduction    r_c = sum n_l * P_l / sum nnz_l * P_l      n_l weights, P_l positions of layer l

Counted are the weights of convolutions (1-D to 3-D, transposed too) and linear layers, not biases, norms or
embeddings. Batch 1.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from secateur.errors import ArtifactError, SparsityError
from secateur.graph.base_count import BASES, BaseCount, ratio
from secateur.graph.layer_count import LayerCount
from secateur.graph.table import dims, percent, text_table
from secateur.registry import unknown


@dataclass(frozen=True)
class Census:
    """All layers of a network, counted.

    input_shape    (channels, height, width) of the image that positions refer to
    parameters     all parameters, biases and norms included, shared ones once
    dynamic_macs   MACs of products of two activations (attention); never pruned, not part of `macs`
    other_zeros    zeros among the parameters that no layer holds
    notes          what the figures do not contain
    """

    layers: tuple[LayerCount, ...]
    input_shape: tuple[int, ...]
    parameters: int
    dynamic_macs: int = 0
    other_zeros: int = 0
    notes: tuple[str, ...] = ()

    @property
    def weights(self) -> int:
        return sum(layer.weights for layer in self.layers)

    @property
    def nonzeros(self) -> int:
        return sum(layer.nonzeros for layer in self.layers)

    @property
    def bytes(self) -> int:
        """What the weights of all layers take, zeros included."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Fraction of zeros, base conv_linear."""
        return self.base("conv_linear").sparsity

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def sparse_macs(self) -> int:
        return sum(layer.sparse_macs for layer in self.layers)

    @property
    def parameter_reduction(self) -> float:
        """Weights / nonzeros, base conv_linear."""
        return ratio(self.weights, self.nonzeros)

    @property
    def compute_reduction(self) -> float:
        """MACs / MACs of nonzero weights, dynamic MACs left out."""
        return ratio(self.macs, self.sparse_macs)

    def relative_to(self, dense: "Census") -> "Census":
        """The same counts with the dense network as the base: what was taken out counts as zero.

        Of a network from which channels were removed, reductions are meant relative to the one before.

        raises    SparsityError  a layer that the dense network does not have
        """
        own = {layer.name: layer for layer in self.layers}
        for name in own:
            dense.layer(name)
        layers = tuple(_within(layer, own.get(layer.name)) for layer in dense.layers)
        removed = (dense.parameters - dense.weights) - (self.parameters - self.weights)
        return replace(
            dense,
            layers=layers,
            other_zeros=self.other_zeros + removed,
            dynamic_macs=self.dynamic_macs,
            notes=self.notes,
        )

    def layer(self, name: str) -> LayerCount:
        """The layer of that name. raises SparsityError with the nearest name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise SparsityError(unknown("layer", name, [layer.name for layer in self.layers]))

    def base(self, base: str = "conv_linear", *, selected: Iterable[str] = ()) -> BaseCount:
        """Zeros and total in one of the bases that percentages are given in.

        selected    the names that base 'selected' counts
        raises      SparsityError  unknown base, or a selected layer that does not exist
        """
        if base == "conv_linear":
            return BaseCount("conv_linear", self.weights - self.nonzeros, self.weights)
        if base == "selected":
            return BaseCount.of_weights("selected", [self.layer(name) for name in selected])
        if base == "conv_only":
            return BaseCount.of_weights("conv_only", [layer for layer in self.layers if layer.kind != "linear"])
        if base == "all_params":
            return BaseCount("all_params", self.weights - self.nonzeros + self.other_zeros, self.parameters)
        if base == "macs":
            return BaseCount("macs", self.macs - self.sparse_macs, self.macs)
        if base == "channels":
            zeros = sum(layer.zero_channels for layer in self.layers)
            return BaseCount("channels", zeros, sum(layer.channels for layer in self.layers))
        raise SparsityError(unknown("base", base, BASES))

    def statistics(self) -> str:
        """One line: parameters, nonzeros, sparsity, MACs, remaining MACs, ratio."""
        dynamic = f", dynamic MACs {self.dynamic_macs:,}" if self.dynamic_macs else ""
        return (
            f"parameters {self.parameters:,}, weights {self.weights:,}, nonzeros {self.nonzeros:,}, "
            f"sparsity {100 * self.sparsity:.5f} % (base conv_linear), MACs {self.macs:,}, "
            f"remaining MACs {self.sparse_macs:,}, ratio {_times(self.compute_reduction)}{dynamic}"
        )

    def compute_summary(self) -> str:
        """Per layer: type, attributes, shapes and volumes, weights, MACs; then the total."""
        headers = ("layer", "type", "attributes", "input", "volume", "output", "volume", "weights", "MACs")
        rows = [
            (
                layer.name,
                layer.kind,
                layer.attributes,
                dims(layer.input_shape),
                f"{math.prod(layer.input_shape):,}" if layer.input_shape else "-",
                dims(layer.output_shape),
                f"{math.prod(layer.output_shape):,}" if layer.output_shape else "-",
                f"{layer.weights:,}",
                f"{layer.macs:,}",
            )
            for layer in self.layers
        ]
        rows.append(("total", "", "", "", "", "", "", f"{self.weights:,}", f"{self.macs:,}"))
        return text_table(headers, rows, left=3, total=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `totals` repeats derived figures for readers, None where a reduction is infinite."""
        return {
            "input_shape": list(self.input_shape),
            "parameters": self.parameters,
            "dynamic_macs": self.dynamic_macs,
            "other_zeros": self.other_zeros,
            "notes": list(self.notes),
            "layers": [layer.to_dict() for layer in self.layers],
            "totals": {
                "weights": self.weights,
                "nonzeros": self.nonzeros,
                "bytes": self.bytes,
                "sparsity": self.sparsity,
                "macs": self.macs,
                "sparse_macs": self.sparse_macs,
                "parameter_reduction": _finite(self.parameter_reduction),
                "compute_reduction": _finite(self.compute_reduction),
            },
        }

    @classmethod
    def from_dict(cls, value: Any) -> "Census":
        """The census that `to_dict` wrote. raises ArtifactError when it is something else."""
        try:
            return cls(
                layers=tuple(LayerCount.from_dict(entry) for entry in value["layers"]),
                input_shape=tuple(int(side) for side in value["input_shape"]),
                parameters=int(value["parameters"]),
                dynamic_macs=int(value.get("dynamic_macs", 0)),
                other_zeros=int(value.get("other_zeros", 0)),
                notes=tuple(str(note) for note in value.get("notes", ())),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"this is not a census: {type(error).__name__} {error}.") from error

    def __str__(self) -> str:
        headers = (
            "layer", "kind", "shape", "positions", "weights", "nonzeros", "zeros %", "MACs", "sparse MACs",
        )  # fmt: skip
        rows = [_row(layer.name, layer.kind, dims(layer.shape), f"{layer.positions:,}", layer) for layer in self.layers]
        rows.append(_row("total", "", "", "", self))
        bits = [str(layer.bits) for layer in self.layers]
        if set(bits) - {"32"}:
            headers = (*headers, "bits")
            rows = [(*row, cell) for row, cell in zip(rows, [*bits, ""], strict=True)]
        lines = [text_table(headers, rows, left=3, total=True)]
        if set(bits) - {"32"}:
            lines.append(f"weights take {self.bytes:,} bytes, zeros included: {_by_bits(self.layers)}")
        lines.append(
            f"base conv_linear ({BASES['conv_linear']}); one image of {dims(self.input_shape)}; "
            f"{self.parameters:,} parameters in all"
        )
        lines.append(
            f"parameter reduction {_times(self.parameter_reduction)}, "
            f"compute reduction {_times(self.compute_reduction)}"
        )
        if self.dynamic_macs:
            lines.append(f"dynamic MACs (products of two activations, never pruned): {self.dynamic_macs:,}")
        lines.extend(f"{layer.name}: {layer.note}" for layer in self.layers if layer.note)
        lines.extend(self.notes)
        return "\n".join(lines)


def _row(name: str, kind: str, shape: str, positions: str, counts: LayerCount | Census) -> tuple[str, ...]:
    return (
        name,
        kind,
        shape,
        positions,
        f"{counts.weights:,}",
        f"{counts.nonzeros:,}",
        percent(counts.weights - counts.nonzeros, counts.weights),
        f"{counts.macs:,}",
        f"{counts.sparse_macs:,}",
    )


def _by_bits(layers: Iterable[LayerCount]) -> str:
    count: dict[int, int] = {}
    for layer in layers:
        count[layer.bits] = count.get(layer.bits, 0) + layer.weights
    return ", ".join(f"{weights:,} of {bits} bits" for bits, weights in sorted(count.items()))


def _within(dense: LayerCount, left: LayerCount | None) -> LayerCount:
    if left is None:
        return replace(dense, nonzeros=0, zero_channels=dense.channels)
    gone = dense.channels - left.channels
    return replace(dense, nonzeros=left.nonzeros, zero_channels=left.zero_channels + gone, note=left.note)


def _times(ratio: float) -> str:
    return "infinite" if math.isinf(ratio) else f"{ratio:.4f}×"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
