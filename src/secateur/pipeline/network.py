"""Networks on their way through a run: built from a recipe, written between stages, rebuilt from an artifact.

Between stages a network is kept with its masks, as `model.safetensors` of the stage's folder. In the artifact the
masks are folded, and the metadata of `weights.safetensors` says how to build the network they belong to:

    model            JSON of the zoo's options: name, classes, and every option it was built with
    preprocessing    JSON of the input size and normalisation
    removals         JSON of the removal plans by which it lost channels, if it did
"""

import json
from pathlib import Path

from torch import Tensor, nn

from secateur import zoo
from secateur.errors import ArtifactError, ModelError, SecateurError
from secateur.export import folded_copy, load_weights, save_weights
from secateur.pipeline.removals import removals_text, replay_removals_
from secateur.recipe import Data, Model
from secateur.sparsity import attach_masks_, set_scale_
from secateur.sparsity.layers import weighted_modules

# State dict keys of a masked weight, after the layer's name (torch.nn.utils.parametrize): its mask, and the number that
# multiplies what the mask keeps, where there is one.
MASK_KEY = ".parametrizations.weight.0.mask"
SCALE_KEY = ".parametrizations.weight.0.scale"


def build_images(data: Data) -> zoo.ImageData:
    """The images that a recipe names. raises DataError, RecipeError."""
    return zoo.data(data.name, classes_file=data.classes_file, root=data.root, holdout=data.holdout)


def build_network(model: Model, data: Data, images: zoo.ImageData, seed: int) -> nn.Module:
    """The network that a recipe names, for these images. raises ModelError, WeightsError, DataError."""
    options = dict(model.options)
    if data.crop_pct is not None:
        options["crop_pct"] = data.crop_pct
    # A weights file says how many classes it has; the images must agree, and the zoo says so when they do not.
    weights = None if model.weights == "none" else model.weights
    given = model.classes or (None if weights or not images.labelled else len(images.classes))
    network = zoo.model(model.name, weights=weights, classes=given, seed=seed, **options)
    zoo.check_classes(images, network)
    return network


def save_network(network: nn.Module, path: Path) -> None:
    """Write the network with its masks. raises DiskError."""
    save_weights(path, network.state_dict(), {})


def restore_network_(network: nn.Module, path: Path) -> None:
    """Bring `network` to the state in a file of `save_network`. raises ArtifactError when they do not fit."""
    state, _ = load_weights(path)
    _load_state_(network, state, path)


def save_artifact_weights(network: nn.Module, path: Path) -> dict[str, Tensor]:
    """Write the folded weights with what is needed to build the network again; returns the tensors written."""
    metadata = {"producer": "secateur"}
    options = getattr(network, "zoo_options", None)
    if options is not None:
        metadata["model"] = json.dumps(options, sort_keys=True)
    preprocessing = getattr(network, "preprocessing", None)
    if preprocessing is not None:
        metadata["preprocessing"] = json.dumps(preprocessing.to_dict(), sort_keys=True)
    removals = removals_text(network)
    if removals is not None:
        metadata["removals"] = removals
    state = folded_copy(network).state_dict()
    save_weights(path, state, metadata)
    return state


def is_rebuildable(path: Path) -> bool:
    """Whether a weights file says which network it belongs to. raises ArtifactError when it is damaged."""
    _, metadata = load_weights(path)
    return "model" in metadata


def load_artifact_network(path: Path) -> nn.Module:
    """The network that a weights file of an artifact holds, in evaluation mode.

    raises    ArtifactError  the file is damaged, or does not say how to build its network
    """
    state, metadata = load_weights(path)
    if "model" not in metadata:
        raise ArtifactError(
            f"{path}: does not say which network it belongs to (it came from a Python object, not from a name)."
        )
    try:
        options = json.loads(metadata["model"])
        preprocessing = zoo.Preprocessing.from_dict(json.loads(metadata["preprocessing"]))
        network = zoo.model(**options)
        replay_removals_(network, json.loads(metadata.get("removals", "[]")))
    except (json.JSONDecodeError, KeyError, TypeError, ModelError) as error:
        raise ArtifactError(f"{path}: what it says of its network is damaged: {error}.") from error
    network.preprocessing = preprocessing  # type: ignore[assignment]
    _load_state_(network, state, path)
    return network.eval()


def _load_state_(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    try:
        masked = [key.removesuffix(MASK_KEY) for key in state if key.endswith(MASK_KEY)]
        attach_masks_(network, masked)
        for name in masked:
            if f"{name}{SCALE_KEY}" in state:
                set_scale_(network.get_submodule(name), float(state[f"{name}{SCALE_KEY}"]))
        _gain_biases_(network, state)
        network.load_state_dict(state)
    except (RuntimeError, SecateurError) as error:
        first = str(error).splitlines()[0]
        raise ArtifactError(f"{path}: belongs to another network ({first}).") from error


def _gain_biases_(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Give layers the biases that they gained on the way: corrections make them where there were none."""
    for name, module in weighted_modules(network).items():
        bias = state.get(f"{name}.bias")
        if bias is not None and module.bias is None:
            module.bias = nn.Parameter(bias.clone())
