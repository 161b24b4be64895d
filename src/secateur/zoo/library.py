"""Networks that torchvision and timm have under a name, with their weights and their input."""

from typing import Any

from torch import nn

from secateur.errors import ModelError, WeightsError
from secateur.zoo.head import head_of
from secateur.zoo.imported import describe
from secateur.zoo.preprocessing import Preprocessing, from_timm, from_torchvision
from secateur.zoo.torchvision_guard import import_timm, import_torchvision

# The auxiliary classifiers of these two serve training only, and make the output a tuple.
_TORCHVISION_DEFAULTS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


class Torchvision:
    """The classification networks of torchvision.models."""

    name = "torchvision"

    def names(self) -> list[str]:
        models = import_torchvision("models")
        return models.list_models(module=models)

    def has(self, name: str) -> bool:
        return name in self.names()

    def build(self, name: str, classes: int | None, options: dict[str, Any]) -> nn.Module:
        """With random weights. raises ModelError when an option does not exist."""
        arguments = _TORCHVISION_DEFAULTS.get(name, {}) | options
        if classes is not None:
            arguments["num_classes"] = classes
        builder = import_torchvision("models").get_model_builder(name)
        try:
            return builder(**arguments)
        except (TypeError, ValueError) as error:
            raise ModelError(f"{name}: torchvision cannot build it: {describe(error)}.") from error

    def pretrained(self, name: str, classes: int | None, options: dict[str, Any]) -> nn.Module:
        """With the library's weights; with another number of classes, the head alone is random.

        raises    WeightsError  when they cannot be downloaded, or do not fit because of an option
        """
        weights = import_torchvision("models").get_model_weights(name).DEFAULT
        try:
            donor = import_torchvision("models").get_model_builder(name)(weights=weights)
        except (OSError, RuntimeError) as error:
            raise _not_downloaded(name, error) from error
        if getattr(donor, "transform_input", False):
            options = {"transform_input": True} | options
        module = self.build(name, classes, options)
        _copy_but_head(donor, module, name)
        return module

    def has_pretrained(self, name: str) -> bool:
        return bool(import_torchvision("models").get_model_weights(name).__members__)

    def preprocessing(self, name: str, module: nn.Module) -> Preprocessing:
        return from_torchvision(import_torchvision("models").get_model_weights(name).DEFAULT.transforms())


class Timm:
    """The networks of timm; a tag such as `resnet50.a1_in1k` chooses among its pretrained weights."""

    name = "timm"

    def names(self) -> list[str]:
        return import_timm().list_models()

    def has(self, name: str) -> bool:
        return import_timm().is_model(name)

    def build(self, name: str, classes: int | None, options: dict[str, Any], pretrained: bool = False) -> nn.Module:
        """With random weights. raises ModelError when an option or the tag does not exist."""
        arguments = options if classes is None else options | {"num_classes": classes}
        try:
            return import_timm().create_model(name, pretrained=pretrained, **arguments)
        except (TypeError, ValueError, AssertionError) as error:
            raise ModelError(f"{name}: timm cannot build it: {describe(error)}.") from error
        except RuntimeError as error:
            if pretrained:
                raise _not_downloaded(name, error) from error
            raise ModelError(f"{name}: timm cannot build it: {describe(error)}.") from error

    def pretrained(self, name: str, classes: int | None, options: dict[str, Any]) -> nn.Module:
        """With the library's weights; with another number of classes, the head alone is random.

        raises    WeightsError  when timm has none for it, or they cannot be downloaded
        """
        if not self.has_pretrained(name):
            raise WeightsError(f"{name}: timm has no pretrained weights for it; pass a weights file, or none.")
        try:
            return self.build(name, classes, options, pretrained=True)
        except ModelError:
            raise
        except WeightsError:
            raise
        # The download goes through huggingface_hub, whose errors derive from several HTTP libraries.
        except Exception as error:
            raise _not_downloaded(name, error) from error

    def has_pretrained(self, name: str) -> bool:
        return import_timm("models").is_model_pretrained(name)

    def preprocessing(self, name: str, module: nn.Module) -> Preprocessing:
        return from_timm(module.pretrained_cfg)  # type: ignore[arg-type]


# The first that has a name is asked.
LIBRARIES: tuple[Torchvision | Timm, ...] = (Torchvision(), Timm())


def _not_downloaded(name: str, error: BaseException) -> WeightsError:
    return WeightsError(
        f"{name}: its pretrained weights could not be downloaded ({describe(error)}); "
        "pass a .safetensors or .pth file instead."
    )


def _copy_but_head(donor: nn.Module, module: nn.Module, name: str) -> None:
    given, wanted = donor.state_dict(), module.state_dict()
    head = {f"{head_of(module)}.{part}" for part in ("weight", "bias")}
    taken = {key: given[key] for key in wanted if key in given and given[key].shape == wanted[key].shape}
    if unfit := [key for key in wanted if key not in taken and key not in head]:
        raise WeightsError(
            f"{name}: the pretrained weights do not fit the network with these options: "
            f"{len(unfit)} tensors differ, the first is {unfit[0]}."
        )
    module.load_state_dict(taken, strict=False)
