"""Masks under DistributedDataParallel: two processes, gloo, on the loopback interface."""

import socket
import subprocess
import sys
from pathlib import Path

import torch


def test_two_ranks_keep_the_same_zeros(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    worker = Path(__file__).with_name("distributed_worker.py")
    ranks = [
        subprocess.Popen(
            [sys.executable, str(worker), str(rank), str(port), str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for rank in ranks:
        _, errors = rank.communicate(timeout=120)
        assert rank.returncode == 0, errors
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    # 16 blocks of 36 weights: .25, .6875 and .75 of them
    assert one["counts"] == other["counts"] == [4 * 36, 11 * 36, 12 * 36, 12 * 36]
    assert torch.equal(one["weight"], other["weight"])
    assert one["zeros"] == other["zeros"] == 12 * 36
