"""A network, its Gram matrices and its database, small enough for tests that put networks together."""

import torch

from secateur.posttraining.costs import CostFacts
from secateur.posttraining.database_filling import build_database
from secateur.posttraining.gram import GramSum
from secateur.posttraining.subject_torch import TorchSubject
from secateur.sparsity import LayerSeconds, census, parse_pattern
from tiny_networks import Tiny

LEVELS = (0.25, 0.5, 0.75, 0.9)
PATTERNS = ("unstructured", "1x4")
# Seconds of every layer at a level.
TIMES = {0.0: 1.0, 0.5: 0.8, 0.9: 0.3}


def subject(seed=0):
    torch.manual_seed(seed)
    return TorchSubject(Tiny().eval())


def batches():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn((8, 3, 16, 16), generator=generator) for _ in range(2)]


def grams(of):
    sums = {layer.name: GramSum() for layer in of.layers}
    for images in batches():
        watch = {name: lambda x, name=name: sums[name].add(x, of.geometry(name)) for name in sums}
        of.run(images, watch)
    return {name: own.result() for name, own in sums.items()}


def database(folder, of=None, patterns=("unstructured",), levels=LEVELS, **settings):
    of = of or subject()
    return build_database(of, grams(of), [parse_pattern(pattern) for pattern in patterns], folder, levels, **settings)


def facts(of, database):
    """The census, and times that are the same for every layer and for each of PATTERNS."""
    seconds = [LayerSeconds("here", spec, dict.fromkeys(database.layers, TIMES), 0.5) for spec in PATTERNS]
    return CostFacts(census(of.model), seconds)
