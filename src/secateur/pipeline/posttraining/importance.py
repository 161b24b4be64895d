"""What the outputs of layers count while masks are chosen, kept on disk; of an ONNX file through its torch twin."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from secateur.cache import Cache, key_of
from secateur.errors import ModelError, PosttrainingError, QuantizationError
from secateur.pipeline.posttraining.choices import patterns_of
from secateur.pipeline.posttraining.onnx_tuning import checked_twin
from secateur.posttraining.arrays import array_of
from secateur.posttraining.gathering import digest_of_images
from secateur.posttraining.losses import Batches
from secateur.posttraining.output_importance import output_importance
from secateur.posttraining.subject import Subject
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.posttraining.subject_torch import TorchSubject
from secateur.progress import say
from secateur.recipe.schema.after_training import PosttrainingStage
from secateur.sparsity import NM

# Of every layer: they count alike.
ALIKE: Mapping[str, Tensor] = MappingProxyType({})


def importance_of(
    dense: Subject, names: Iterable[str], batches: Batches, stage: PosttrainingStage, folder: Path, seed: int = 0
) -> Mapping[str, Tensor]:
    """`output_importance` of the layers, as the stage wants it; those that are missing have outputs that count alike.

    folder    keeps it, so that a killed call goes on with the same
    raises    DiskError
    """
    # N:M has as many zeros in every filter: filters do not compete.
    if not stage.weigh_outputs or all(isinstance(rule, NM) for rule in patterns_of(stage)):
        return ALIKE
    wanted = sorted(names)
    key = key_of(["importance of outputs", dense.digest(), digest_of_images(batches), wanted, seed])
    cache = Cache(folder)
    entry = cache.get(key)
    if entry is None:
        try:
            network, modules = _differentiable(dense, batches)
            layers = {name: modules[name] for name in wanted if name in modules}
            found = output_importance(network, layers, batches, seed=seed)
        # RuntimeError: torch's, of networks that were never meant to be trained.
        except (ModelError, PosttrainingError, QuantizationError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            say(f"posttraining: outputs of a layer count alike, no gradient tells what they matter: {reason}")
            return ALIKE
        entry = cache.put(key, {}, {name: array_of(own) for name, own in found.items()})
    return {name: torch.from_numpy(array.copy()) for name, array in entry.arrays.items()}


def _differentiable(dense: Subject, batches: Batches) -> tuple[nn.Module, Mapping[str, Sequence[str]]]:
    """(a network that gradients flow through, layer -> its modules)."""
    if isinstance(dense, TorchSubject):
        return dense.model, {layer.name: (layer.name, *layer.shared) for layer in dense.layers}
    assert isinstance(dense, OnnxSubject)
    twin = checked_twin(dense, batches)
    return twin.module, {name: (module,) for name, module in twin.names.items()}
