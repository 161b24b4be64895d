"""Masks under DistributedDataParallel: two processes, gloo, on the loopback interface."""

import socket

import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from secateur.sparsity import AgpEpochs, Sparsifier, census, fold_masks_, masks, plan_sparsity


def train(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
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


def test_two_ranks_keep_the_same_zeros(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(train, args=(port, str(tmp_path)), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    # 16 blocks of 36 weights: .25, .6875 and .75 of them
    assert one["counts"] == other["counts"] == [4 * 36, 11 * 36, 12 * 36, 12 * 36]
    assert torch.equal(one["weight"], other["weight"])
    assert one["zeros"] == other["zeros"] == 12 * 36
