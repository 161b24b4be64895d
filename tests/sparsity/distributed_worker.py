"""One rank of the run that test_distributed.py starts: rank, port and output folder are its arguments."""

import sys
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from secateur.sparsity import AgpEpochs, Sparsifier, census, fold_masks_, masks, plan_sparsity


def train(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    torch.manual_seed(rank)  # DistributedDataParallel gives every rank the weights of rank 0
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(32, 4))
    sparsifier = Sparsifier(model, plan_sparsity(model, 0.75, "1x4", base="selected"), AgpEpochs(0, 3, 1, 0.25, 0.75))
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(parallel.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    counts = []
    for epoch in range(4):
        sparsifier.update_(epoch)
        for _ in range(2):
            optimizer.zero_grad()
            parallel(torch.randn(4, 3, 6, 6)).square().mean().backward()
            optimizer.step()
        counts.append(int((model[2].weight == 0).sum()))
    found = census(parallel, (3, 6, 6))
    fold_masks_(parallel)
    torch.save(
        {"counts": counts, "weight": model[2].weight.detach(), "zeros": found.weights - found.nonzeros},
        f"{folder}/{rank}.pt",
    )
    assert not masks(parallel)
    distributed.destroy_process_group()


if __name__ == "__main__":
    train(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
