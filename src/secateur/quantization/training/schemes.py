"""Schemes by name: which rules round weights and activations, and what the scheme fixes where the recipe is silent."""

from dataclasses import dataclass

from secateur.quantization.training import activation_rules as _activation_rules  # noqa: F401  (files the rules)
from secateur.quantization.training import weight_rules as _weight_rules  # noqa: F401
from secateur.recipe.schema.quantization_training import QuantizationTraining
from secateur.registry import Registry


@dataclass(frozen=True)
class Scheme:
    """One scheme.

    weights, activations    names of rules
    behind_relu             rule for values that cannot be negative, where the scheme has one for them alone; the
                            others, which its source leaves float, follow `activations`
    """

    weights: str
    activations: str = "affine"
    behind_relu: str | None = None
    per_channel: bool = False
    weight_mode: str = "sym"
    decay: float = 0.999

    def filled(self, config: QuantizationTraining) -> QuantizationTraining:
        """The recipe with the scheme's own settings where it has none."""
        own = {"per_channel": self.per_channel, "weight_mode": self.weight_mode, "decay": self.decay}
        return config.model_copy(update={key: value for key, value in own.items() if getattr(config, key) is None})


schemes: Registry[Scheme] = Registry("scheme")
schemes.update(
    {
        "affine": Scheme("affine", per_channel=True, decay=0.99),
        "range_linear": Scheme("affine"),
        "tensorflow": Scheme("affine", weight_mode="asym_s"),
        "lsq": Scheme("lsq", "lsq", per_channel=True),
        "pact": Scheme("dorefa", behind_relu="pact"),
        "dorefa": Scheme("dorefa", behind_relu="clipped"),
        "wrpn": Scheme("wrpn", behind_relu="clipped"),
        "uniform": Scheme("uniform"),
        "codebook": Scheme("codebook"),
    }
)
