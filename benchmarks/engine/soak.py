"""Hours of mixed work in one process: no wrong result, no leak, no crash.

    python benchmarks/engine/soak.py --minutes 120

Several Python threads open sessions of small networks (dense, unstructured, blocks, several primitives, parts in ONNX
Runtime), share them, run batches of changing size, close and open them again, sometimes while another thread runs them,
and now and then fork a child that runs one too. Every result is compared with the one that ONNX Runtime gave before,
and bit by bit with the first result of the same kind. Memory and open files are noted every few seconds; after a
warm-up of a tenth of the time they may not grow. Exit code 1 on any failure.
"""

import argparse
import os
import random
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from planted import plant

from secateur.engine.session import Session, compile_onnx
from secateur.errors import EngineError
from secateur.measure.onnxruntime_runtime import open_session

BATCHES = (1, 2, 3, 5, 8)
SIDE = 24
# Of the largest output (ENGINE.md 5).
TOLERANCE = 1e-4
# Resident memory may wander by this much: allocators keep what they got.
SLACK_MIB = 64
# A child may have to compile, on a machine that is busy with everything else.
CHILD_SECONDS = 240
# Models are read, and children started, while files are counted.
SLACK_FILES = 8


def network(seed: int, width: int, *, foreign: bool = False) -> onnx.ModelProto:
    """A small residual network with strides, depthwise and grouped convolutions, pooling and a linear layer.

    foreign    with an operator that only ONNX Runtime has, in the middle
    """
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, np.ndarray] = {}

    def conv(x: str, name: str, o: int, c: int, kernel: int, stride: int = 1, group: int = 1, act: str = "Relu") -> str:
        constants[name] = rng.standard_normal((o, c // group, kernel, kernel)) / np.sqrt(c // group * kernel**2 / 2)
        pads = [kernel // 2] * 4
        options = {"pads": pads, "strides": [stride, stride], "group": group}
        nodes.append(helper.make_node("Conv", [x, name], [f"{name}_y"], name, **options))
        if not act:
            return f"{name}_y"
        nodes.append(helper.make_node(act, [f"{name}_y"], [f"{name}_a"], f"{name}_act"))
        return f"{name}_a"

    x = conv("input", "stem", width, 3, 3, stride=2)
    for block in range(3):
        inner = conv(x, f"b{block}_1", width, width, 3, act=("Relu", "HardSwish", "Sigmoid")[(seed + block) % 3])
        inner = conv(inner, f"b{block}_dw", width, width, 3, group=width)
        inner = conv(inner, f"b{block}_2", width, width, 1, act="")
        nodes.append(helper.make_node("Add", [x, inner], [f"sum{block}"], f"add{block}"))
        x = f"sum{block}"
        if foreign and block == 1:
            nodes.append(helper.make_node("Sinh", [x], ["bounded"], "foreign"))
            nodes.append(helper.make_node("Tanh", ["bounded"], ["tanh"], "tanh"))
            x = "tanh"
    nodes.append(helper.make_node("MaxPool", [x], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]))
    x = conv("pooled", "last", 2 * width, width, 3, stride=2)
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["mean"], "mean"))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"], "flatten"))
    constants["fc"] = rng.standard_normal((10, 2 * width))
    nodes.append(helper.make_node("Gemm", ["flat", "fc"], ["logits"], "fc", transB=1))
    graph = helper.make_graph(
        nodes, "soak",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@dataclass(frozen=True)
class Kind:
    """A network and how it is compiled; every session of a kind must give the same bits."""

    name: str
    model: onnx.ModelProto
    wanted: Mapping[int, np.ndarray]
    primitive: str


def images(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).standard_normal((batch, 3, SIDE, SIDE)).astype(np.float32)


def kinds() -> list[Kind]:
    """Networks x patterns x primitives."""
    made: list[Kind] = []
    for width, foreign in ((16, False), (40, False), (32, True)):
        base = network(width, width, foreign=foreign)
        for pattern, sparsity in (("unstructured", 0.0), ("unstructured", 0.9), ("unstructured", 0.6), ("1x4", 0.8)):
            model = plant(base, pattern, sparsity)
            peer = open_session(model.SerializeToString(), 1)  # type: ignore[arg-type]
            wanted = {batch: np.asarray(peer.run(None, {"input": images(batch)})[0]) for batch in BATCHES}
            for primitive in ("auto", "direct", "gemm", "pack"):
                name = f"width {width}{' foreign' * foreign}, {pattern} {sparsity:.0%}, {primitive}"
                made.append(Kind(name, model, wanted, primitive))
    return made


@dataclass
class Soak:
    """What all threads share."""

    kinds: list[Kind]
    until: float
    failures: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    shared: dict[int, Session] = field(default_factory=dict)
    bits: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, index: int, batch: int, found: np.ndarray) -> None:
        """Against ONNX Runtime, and against the first result of this kind."""
        kind = self.kinds[index]
        wanted = kind.wanted[batch]
        error = float(np.abs(found - wanted).max() / np.abs(wanted).max())
        if not error <= TOLERANCE:
            self.fail(f"{kind.name}, batch {batch}: differs by {error:.1e} of the largest output")
        with self.lock:
            first = self.bits.setdefault((index, batch), found)
        if not np.array_equal(first, found):
            self.fail(f"{kind.name}, batch {batch}: other bits than before")

    def fail(self, message: str) -> None:
        with self.lock:
            self.failures.append(message)
        print(f"FAILURE: {message}", flush=True)

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def session(self, rng: random.Random, index: int) -> Session:
        """The session of a kind that all threads share, opened where it is not."""
        with self.lock:
            known = self.shared.get(index)
        if known is None:
            made = compile_onnx(
                self.kinds[index].model,
                threads=rng.choice((1, 2, 3)),
                batch=rng.choice(BATCHES),
                primitive=self.kinds[index].primitive,
            )
            self.count("opened")
            with self.lock:
                known = self.shared.setdefault(index, made)
        return known

    def close_one(self, rng: random.Random) -> None:
        """Close a session, whoever runs it."""
        with self.lock:
            if not self.shared:
                return
            closed = self.shared.pop(rng.choice(sorted(self.shared)))
        closed.close()
        self.count("closed")


def work(soak: Soak, seed: int) -> None:
    """One thread: runs and checks until the time is over."""
    rng = random.Random(seed)
    while time.monotonic() < soak.until and not soak.failures:
        try:
            index, batch = rng.randrange(len(soak.kinds)), rng.choice(BATCHES)
            session = soak.session(rng, index)
            for _ in range(rng.randrange(1, 20)):
                try:
                    found = session.run(images(batch))["logits"]
                except EngineError as error:
                    if "closed" not in str(error):
                        raise
                    soak.count("closed while in use")
                    break
                soak.check(index, batch, found)
                soak.count("runs")
            if rng.random() < 0.2:
                soak.close_one(rng)
        except Exception:
            soak.fail(traceback.format_exc())


def fork_and_run(soak: Soak, rng: random.Random) -> None:
    """A child runs a session of its parent, and ends."""
    with soak.lock:
        if not soak.shared:
            return
        index = rng.choice(sorted(soak.shared))
        session = soak.shared[index]
    # ONNX Runtime's own threads do not survive a fork.
    if "foreign" in soak.kinds[index].name:
        return
    child = os.fork()
    if child == 0:
        code = 2
        try:
            found = session.run(images(2))["logits"]
            wanted = soak.kinds[index].wanted[2]
            code = 0 if np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max() else 1
        except EngineError as error:
            code = 0 if "closed" in str(error) else 3
        finally:
            os._exit(code)
    deadline = time.monotonic() + CHILD_SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            soak.count("children")
            if status:
                soak.fail(f"a child that ran {soak.kinds[index].name} ended with status {status}")
            return
        time.sleep(0.05)
    os.kill(child, 9)
    os.waitpid(child, 0)
    soak.fail(f"a child that ran {soak.kinds[index].name} did not end in {CHILD_SECONDS} s")


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def growth(readings: list[float]) -> float:
    """By how much the last quarter's median lies above that of the quarter after the warm-up."""
    after = readings[len(readings) // 10 :]
    quarter = max(1, len(after) // 4)
    return float(np.median(after[-quarter:]) - np.median(after[:quarter]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--workers", type=int, default=4, help="Python threads")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("computing the expected results", flush=True)
    soak = Soak(kinds(), 0.0)
    started = time.monotonic()
    soak.until = started + 60 * options.minutes
    threads = [
        threading.Thread(target=work, args=(soak, options.seed * 1000 + index)) for index in range(options.workers)
    ]
    for thread in threads:
        thread.start()
    rng, memory, files, said = random.Random(options.seed), [], [], 0.0
    while any(thread.is_alive() for thread in threads):
        time.sleep(2)
        if hasattr(os, "fork") and rng.random() < 0.2 and not soak.failures:
            fork_and_run(soak, rng)
        memory.append(resident_mib())
        files.append(open_files())
        if time.monotonic() - said > 30:
            said = time.monotonic()
            counts = ", ".join(f"{count:,} {what}" for what, count in sorted(soak.counts.items()))
            passed = (said - started) / 60
            print(f"{passed:6.1f} min  {memory[-1]:6.0f} MiB  {files[-1]} files  {counts}", flush=True)
    grown, opened = growth(memory), growth(files)
    if grown > SLACK_MIB:
        soak.fail(f"memory grew by {grown:.0f} MiB")
    if opened > SLACK_FILES:
        soak.fail(f"{opened:.0f} more files are open than after the warm-up")
    covered = len(soak.bits) / (len(soak.kinds) * len(BATCHES))
    verdict = "FAILED" if soak.failures else "passed"
    print(
        f"{verdict}: {soak.counts['runs']:,} runs, {covered:.0%} of kinds and batch sizes, "
        f"memory {memory[-1]:.0f} MiB, {grown:+.0f} MiB and {opened:+.0f} open files since the warm-up, "
        f"{len(soak.failures)} failures"
    )
    return 1 if soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
