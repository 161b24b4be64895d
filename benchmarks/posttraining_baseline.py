"""The published post-training baseline on CIFAR-10: ResNet-20, magnitude masks, 20,000 Adam steps for every layer.

    python benchmarks/posttraining_baseline.py --data imagefolder:DIR --weights DIR --sparsity 0.5,0.6,0.7,0.8
    python benchmarks/posttraining_baseline.py --data imagefolder:DIR --weights DIR --sparsity 0.7 --steps 200

DIR holds the weights as resnet20_cifar10.safetensors. The first convolution stays dense, all else is pruned by the same
share. Calibration images are training images, without labels; accuracy is over all test images, before and after the
norms are measured again. With fewer steps than 20,000 the time of 20,000 is extrapolated from the time of a step; where
the machine is busy with other work, the processor time of a step says more than the time on the clock.
"""

import argparse
import copy
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from secateur import zoo
from secateur.files import write_json
from secateur.posttraining.descent import FitOptions
from secateur.posttraining.reconstruct import ReconstructOptions, reconstruct_
from secateur.sparsity import Sparsifier, plan_sparsity
from secateur.training import evaluate

PUBLISHED_STEPS = 20_000


def calibration(data: zoo.ImageData, network: nn.Module, images: int, batch: int) -> list[Tensor]:
    """Batches of preprocessed training images."""
    loader = zoo.loader(data, "train", zoo.preprocessing_of(network), batch_size=batch, seed=0)
    return [found for found, _ in islice(loader, images // batch)]


@torch.no_grad()
def norms_again_(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Running statistics of the batch norms as cumulative averages over `batches`."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for images in batches:
        network(images)
    network.eval()


def results(options: argparse.Namespace) -> Iterator[dict[str, float]]:
    data = zoo.data(options.data)
    dense = zoo.model("resnet20_cifar10", weights=options.weights / "resnet20_cifar10.safetensors").eval()
    preprocessing = zoo.preprocessing_of(dense)
    batches = calibration(data, dense, options.images, options.batch)
    for sparsity in map(float, options.sparsity.split(",")):
        network = copy.deepcopy(dense)
        plan = plan_sparsity(network, sparsity, "unstructured", base=options.base, include_classifier=True)
        Sparsifier(network, plan).update_(0)
        masked = evaluate(network, data, preprocessing, limit=options.limit).top1
        fit = FitOptions(options.steps, options.rate, options.relative, options.bias_rate, options.decay)
        chosen = ReconstructOptions(options.unit, fit, options.inputs, options.mask)
        started, cpu = time.monotonic(), time.process_time()
        found = reconstruct_(network, dense, lambda: batches, chosen, plans=[plan], seconds=options.seconds)
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
        steps = sum(row.steps for row in found.units)
        fitting = sum(row.seconds for row in found.units)
        reconstructed = evaluate(network, data, preprocessing, limit=options.limit).top1
        norms_again_(network, batches)
        yield {
            "sparsity": sparsity,
            "masked top-1": masked,
            "top-1": reconstructed,
            "top-1, norms again": evaluate(network, data, preprocessing, limit=options.limit).top1,
            "seconds": seconds,
            "CPU seconds": cpu,
            "units": len(found.units),
            "ms per step": 1000 * fitting / max(steps, 1),
            "CPU ms per step": 1000 * cpu / max(steps, 1),
            "minutes for 20,000 steps": fitting / max(steps, 1) * PUBLISHED_STEPS * len(found.units) / 60,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10", help="cifar10, or imagefolder:DIR with train/ and test/")
    parser.add_argument("--weights", required=True, type=Path, help="folder with resnet20_cifar10.safetensors")
    parser.add_argument("--sparsity", default="0.5,0.6,0.7,0.8", help="comma-separated")
    parser.add_argument("--base", default="conv_linear", choices=("conv_linear", "selected"))
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--unit", default="layer", choices=("independent", "layer", "block"))
    parser.add_argument("--steps", type=int, default=PUBLISHED_STEPS, help="for each unit")
    parser.add_argument("--rate", type=float, default=1e-5, help="of Adam on the weights")
    parser.add_argument("--relative", action="store_true", help="the rate is a share of the size of a layer's weights")
    parser.add_argument("--bias-rate", type=float, help="on the biases; by default they keep their values")
    parser.add_argument("--decay", default="constant", choices=("constant", "cosine"))
    parser.add_argument("--inputs", default="sparse", choices=("sparse", "dense"))
    parser.add_argument("--mask", default="static", choices=("static", "every_step"))
    parser.add_argument("--seconds", type=float, help="a time box for each sparsity")
    parser.add_argument("--limit", type=int, help="test images, by default all")
    parser.add_argument("--result", type=Path, help="JSON file for the rows")
    options = parser.parse_args()
    rows = []
    for row in results(options):
        rows.append(row)
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
        if options.result:
            settings = {name: str(value) for name, value in vars(options).items()}
            write_json(options.result, {"settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
