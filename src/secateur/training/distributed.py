"""Training on several processes: one per GPU, or per processor where there is none.

    torchrun --nproc-per-node 2 -m secateur compress --recipe recipe.yaml ...

torchrun tells every process its place in environment variables; `start` reads them and joins the group, over
NCCL where there are GPUs and Gloo elsewhere. Without torchrun everything here describes a group of one and
costs nothing. Only the main process writes files; several machines need a run folder that all of them see."""

import os

import torch
import torch.distributed as dist
from torch import Tensor, nn

from secateur.errors import TrainingError


def start() -> None:
    """Join the group that torchrun describes, once; alone there is nothing to do."""
    if started() or int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def stop() -> None:
    """Leave the group, at the end of the program."""
    if started():
        dist.destroy_process_group()


def started() -> bool:
    """Whether this process belongs to a group."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's number in the group, from 0."""
    return dist.get_rank() if started() else 0


def world_size() -> int:
    """Processes in the group."""
    return dist.get_world_size() if started() else 1


def is_main() -> bool:
    """Whether this process is the one that writes files."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process of the group is here."""
    if started():
        dist.barrier()


def device() -> torch.device:
    """Where this process computes: its own GPU if there is one, otherwise the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if "LOCAL_RANK" not in os.environ:
        return torch.device("cuda", torch.cuda.current_device())
    local = int(os.environ["LOCAL_RANK"])
    if local >= torch.cuda.device_count():
        raise TrainingError(
            f"process {local} of this machine has no GPU of its own: there are {torch.cuda.device_count()}; "
            f"start torchrun with --nproc-per-node {torch.cuda.device_count()}."
        )
    return torch.device("cuda", local)


def share_of(batch_size: int) -> int:
    """Images that each process takes of a global batch. raises TrainingError when it cannot be divided."""
    if batch_size % world_size():
        raise TrainingError(
            f"a batch of {batch_size} images cannot be divided among {world_size()} processes; "
            f"batch_size must be a multiple of {world_size()}."
        )
    return batch_size // world_size()


def sum_over_group(values: Tensor) -> Tensor:
    """The sum of `values` over all processes, the same everywhere."""
    if started():
        dist.all_reduce(values)
    return values


def same_buffers_(model: nn.Module) -> None:
    """Give every process the main one's buffers: running statistics differ, as each saw its own images."""
    if started():
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
