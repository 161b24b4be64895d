"""Channels: does a network with half the multiplications run in half the time?

    python benchmarks/channel_efficiency.py --networks resnet56_cifar10,mobilenet_v2,shufflenetv2_x0_5_cifar10

    efficiency = (dense time / thinned time) / (dense MACs / thinned MACs)

Half the MACs of every network are taken out as channels, by `secateur.api.prune_channels`, in all ways that the options
`scope` and `round_to` give, and as residual branches, evenly over the depth. The dense file and all thinned ones are
timed in one process, round by round, in ONNX Runtime and in Secateur. Times do not depend on the values, so weights are
random. A second table has chains of residual blocks of given widths: what a runtime makes of narrow convolutions limits
every choice of channels.

The tables go to benchmarks/results/channel_efficiency.md and .json, with CPU, versions and date.
"""

import argparse
import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from secateur import api, zoo
from secateur.channels import Branch, drop_branches_, residual_branches
from secateur.engine.session import compile_onnx
from secateur.errors import SparsityError
from secateur.files import write_json, write_text
from secateur.graph import census_of_onnx, read_model
from secateur.measure import provenance, provenance_line, time_interleaved
from secateur.measure.onnxruntime_runtime import open_session
from secateur.sparsity import census

HERE = Path(__file__).resolve().parent
SCOPES, MULTIPLES = ("uniform", "global"), (1, 4, 8, 16)
RUNTIMES = ("ONNX Runtime", "Secateur")
# (channels outside, channels inside, side): residual blocks of two 3x3 convolutions.
CHAINS = (
    (16, 16, 32), (16, 12, 32), (16, 8, 32), (32, 32, 16), (32, 24, 16), (32, 16, 16), (32, 8, 16),
    (64, 64, 8), (64, 48, 8), (64, 32, 8), (64, 16, 8),
)  # fmt: skip
BLOCKS = 9


def milliseconds(files: dict[str, Path], shape: tuple[int, int, int], repeats: int) -> dict[str, dict[str, float]]:
    """Runtime -> file -> least time of one image on one thread, all files of a runtime in the same rounds."""
    image = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
    found: dict[str, dict[str, float]] = {}
    for runtime in RUNTIMES:
        runs = {}
        for name, file in files.items():
            if runtime == "ONNX Runtime":
                session = open_session(str(file), 1)
                given = session.get_inputs()[0].name
                runs[name] = lambda feed, session=session, given=given: session.run(None, {given: feed})
            else:
                runs[name] = compile_onnx(read_model(file), threads=1).run
        times = time_interleaved(runs, image, repeats=repeats, max_seconds=120)
        found[runtime] = {name: min(timing.samples) for name, timing in times.items()}
    return found


def macs_of(file: Path, shape: tuple[int, int, int]) -> int:
    return census_of_onnx(read_model(file), input_shape=shape).macs


def network_rows(name: str, folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Half of the MACs out of one network, in every way."""
    torch.manual_seed(0)
    network = zoo.model(name).eval()
    shape = zoo.preprocessing_of(network).input_size
    files = {"dense": folder / f"{name}.onnx"}
    api.export_onnx(network, files["dense"])
    for scope in SCOPES:
        for multiple in MULTIPLES:
            file = folder / f"{name}-{scope}-{multiple}.onnx"
            try:
                api.prune_channels(network, file, 0.5, scope=scope, round_to=multiple, input_size=shape)
            except SparsityError as error:
                print(f"{name}, {scope}, multiples of {multiple}: {error}")
                continue
            files[f"{scope}, multiples of {multiple}"] = file
    if (shallow := without_half(network, shape)) is not None:
        files["residual branches"] = folder / f"{name}-branches.onnx"
        api.export_onnx(shallow, files["residual branches"])
    times = milliseconds(files, shape, repeats)
    macs = {label: macs_of(file, shape) for label, file in files.items()}
    return [
        {
            "network": name,
            "channels": label,
            "macs": macs[label],
            "reduction": macs["dense"] / macs[label],
            "milliseconds": {runtime: times[runtime][label] for runtime in RUNTIMES},
            "efficiency": {
                runtime: times[runtime]["dense"] / times[runtime][label] / (macs["dense"] / macs[label])
                for runtime in RUNTIMES
            },
        }
        for label in files
    ]


def without_half(network: nn.Module, shape: tuple[int, int, int]) -> nn.Module | None:
    """Every second residual branch gone, then others, until half of the MACs are; None where there are too few."""
    found = residual_branches(network, shape)
    goal, gone = census(network, shape).macs / 2, 0
    chosen: list[Branch] = []
    for branch in (*found[1::2], *found[::2]):
        if gone < goal:
            chosen.append(branch)
            gone += branch.macs
    if gone < goal:
        return None
    shallow = copy.deepcopy(network)
    drop_branches_(shallow, {branch.name: branch.rest for branch in chosen})
    return shallow


def chain(outside: int, inside: int, side: int) -> onnx.ModelProto:
    """Residual blocks with random weights."""
    random = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    x = "x"
    for block in range(BLOCKS):
        for part, (given, made) in enumerate(((outside, inside), (inside, outside))):
            values = (0.05 * random.standard_normal((made, given, 3, 3))).astype(np.float32)
            weights.append(numpy_helper.from_array(values, f"w{block}{part}"))
        shape = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
        nodes += [
            helper.make_node("Conv", [x, f"w{block}0"], [f"a{block}"], **shape),
            helper.make_node("Relu", [f"a{block}"], [f"b{block}"]),
            helper.make_node("Conv", [f"b{block}", f"w{block}1"], [f"c{block}"], **shape),
            helper.make_node("Add", [f"c{block}", x], [f"d{block}"]),
            helper.make_node("Relu", [f"d{block}"], [f"x{block}"]),
        ]
        x = f"x{block}"
    sizes = [1, outside, side, side]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, sizes)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def chain_rows(folder: Path, repeats: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for outside, inside, side in CHAINS:
        file = folder / f"chain-{outside}-{inside}.onnx"
        onnx.save(chain(outside, inside, side), file)
        macs = BLOCKS * 2 * outside * inside * 9 * side**2
        times = milliseconds({"chain": file}, (outside, side, side), repeats)
        speeds = {runtime: macs / times[runtime]["chain"] / 1e6 for runtime in RUNTIMES}
        rows.append({"outside": outside, "inside": inside, "side": side, "macs": macs, "gigamacs per second": speeds})
    return rows


def table(networks: list[dict[str, Any]], chains: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "# Channels: half the multiplications, half the time?",
        "",
        provenance_line(about, "one thread, one image"),
        "",
        "Efficiency: dense time / thinned time, over dense MACs / thinned MACs; least times of rounds in which all",
        "files ran one after the other.",
        "",
        "| network | channels | MACs | fewer | ONNX Runtime ms | efficiency | Secateur ms | efficiency |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in networks:
        figures = [f"{row['milliseconds'][runtime]:.3f} | {row['efficiency'][runtime]:.2f}" for runtime in RUNTIMES]
        lines.append(
            f"| {row['network']} | {row['channels']} | {row['macs'] / 1e6:.1f} M | {row['reduction']:.2f}x | "
            f"{figures[0]} | {figures[1]} |"
        )
    lines += [
        "",
        f"Chains of {BLOCKS} residual blocks of two 3x3 convolutions, 10^9 MACs a second:",
        "",
        "| channels outside | inside | side | ONNX Runtime | Secateur |",
        "|--:|--:|--:|--:|--:|",
    ]
    for row in chains:
        speeds = [f"{row['gigamacs per second'][runtime]:.1f}" for runtime in RUNTIMES]
        lines.append(f"| {row['outside']} | {row['inside']} | {row['side']} | {speeds[0]} | {speeds[1]} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="resnet56_cifar10,shufflenetv2_x0_5_cifar10,mobilenet_v2")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [row for each in options.networks.split(",") for row in network_rows(each, folder, options.repeats)]
        chains = chain_rows(folder, options.repeats)
    about = provenance("onnxruntime", "secateur", "torch")
    write_json(options.results / "channel_efficiency.json", {"about": about, "networks": rows, "chains": chains})
    write_text(options.results / "channel_efficiency.md", table(rows, chains, about))
    print(table(rows, chains, about))


if __name__ == "__main__":
    main()
