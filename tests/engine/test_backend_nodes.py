"""ONNX's own tests of single operators, through whole sessions.

Every case that ONNX Runtime itself can run must give the results that ONNX stores with it, on our kernels or through
ONNX Runtime. Cases feed all values at run time, but networks keep weights, shapes and bounds as constants; so a case
that is not native as it stands is also run "frozen": with all inputs but the first as initializers.

Which cases run natively is kept in backend_nodes_native.txt: none may leave that list unnoticed. After adding
operators, write it again:

    SECATEUR_WRITE_NATIVE_NODES=1 pytest tests/engine/test_backend_nodes.py
"""

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from secateur.engine.session import compile_onnx
from secateur.errors import SecateurError

KEPT = Path(__file__).parent / "backend_nodes_native.txt"

# Cases that draw random numbers, which no two implementations share.
RANDOM = ("bernoulli", "randomuniform", "randomnormal", "multinomial", "training_dropout")
# Cases that read or write text, sequences or optional values: the engine moves tensors of numbers.
NO_NUMBERS = "text, sequences, optionals"
# Cases that cannot pass, and why.
EXCEPTIONS = {
    "test_scan_sum": "onnx's version converter changes the shapes of its inputs",
    # The model takes lists of one number for Range; only scalars are legal.
    "test_affine_grid_2d_expanded": "ONNX Runtime accepts it only while it does not know the shapes",
    "test_affine_grid_2d_align_corners_expanded": "ONNX Runtime accepts it only while it does not know the shapes",
}
# Half precision is rounded between operators, and the stored results by other rules than ONNX Runtime's.
HALF = {"float16": 2e-3, "bfloat16": 2e-2}


@dataclass(frozen=True)
class Case:
    """One model with one set of inputs and results."""

    name: str
    model: onnx.ModelProto
    feeds: Mapping[str, np.ndarray]
    wanted: Sequence[np.ndarray]
    rtol: float
    atol: float

    def frozen(self) -> "Case | None":
        """All inputs but the first as initializers, where the first is one of floats."""
        names = list(self.feeds)
        if len(names) < 2 or self.feeds[names[0]].dtype != np.float32:
            return None
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        kept = [value for value in model.graph.input if value.name == names[0]]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        model.graph.initializer.extend(numpy_helper.from_array(self.feeds[name], name) for name in names[1:])
        feeds = {names[0]: self.feeds[names[0]]}
        return Case(f"{self.name} frozen", model, feeds, self.wanted, self.rtol, self.atol)

    def difference(self, found: Sequence[np.ndarray]) -> str:
        """Where results are not the stored ones, "" where they are."""
        for given, wanted in zip(found, self.wanted, strict=True):
            if (given.dtype, given.shape) != (wanted.dtype, wanted.shape):
                return f"{given.dtype} {given.shape} instead of {wanted.dtype} {wanted.shape}"
            tolerance = max(self.rtol, HALF.get(str(given.dtype), 0))
            try:
                np.testing.assert_allclose(
                    _plain(given), _plain(wanted), rtol=tolerance, atol=max(self.atol, HALF.get(str(given.dtype), 0))
                )
            except AssertionError as error:
                return str(error)
        return ""


@dataclass(frozen=True)
class Result:
    """native or fallback; or the reason why a case does not count; or what went wrong."""

    where: str = ""
    skipped: str = ""
    wrong: str = ""


def cases() -> Iterator[tuple[str, Case | None]]:
    """Names of all node tests, with their case if it is one of numbers."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    for test in found:
        inputs, outputs = test.data_sets[0]
        names = [value.name for value in test.model.graph.input if value.name]
        if not all(isinstance(array, np.ndarray) and array.dtype.kind != "O" for array in (*inputs, *outputs)):
            yield test.name, None
        else:
            # A test without tolerances of its own has those of onnx's runner.
            feeds = dict(zip(names, inputs, strict=True))
            yield test.name, Case(test.name, test.model, feeds, outputs, test.rtol, test.atol)


def judged(case: Case) -> Result:
    """What a session makes of a case."""
    try:
        session = compile_onnx(case.model, threads=1)
        outputs = session.run(case.feeds)
    except SecateurError as error:
        peer = _peer(case)
        return Result(skipped="ONNX Runtime cannot run it") if peer is None else Result(wrong=str(error))
    except Exception as error:  # a defect, which must not hide those of other cases
        return Result(wrong=f"{type(error).__name__}: {error}")
    where = "fallback" if session.report().refused else "native"
    found = [outputs[value.name] for value in case.model.graph.output]
    difference = case.difference(found)
    if not difference:
        return Result(where)
    peer = _peer(case)
    if peer is not None and not replace(case, wanted=peer).difference(found):
        return Result(skipped="ONNX Runtime does not compute what ONNX stores")
    return Result(where, wrong=difference)


@cache
def results() -> dict[str, Result]:
    """All cases, and frozen ones."""
    found: dict[str, Result] = {}
    for name, case in cases():
        if case is None:
            found[name] = Result(skipped=NO_NUMBERS)
        elif any(word in name for word in RANDOM):
            found[name] = Result(skipped="random numbers")
        elif name in EXCEPTIONS:
            found[name] = Result(skipped=EXCEPTIONS[name])
        else:
            found[name] = judged(case)
            frozen = case.frozen()
            if found[name].where != "native" and frozen is not None:
                found[frozen.name] = judged(frozen)
    return found


def test_every_case_that_onnx_runtime_can_run_is_right() -> None:
    wrong = {name: result.wrong for name, result in results().items() if result.wrong}
    assert not wrong, "\n\n".join(f"{name}: {text}" for name, text in wrong.items())
    counts = Counter(result.where or result.skipped for result in results().values())
    print("; ".join(f"{count} {what}" for what, count in counts.most_common()))
    assert counts["native"] + counts["fallback"] > 1500
    assert counts["native"] > 250


def test_cases_that_were_native_still_are() -> None:
    native = sorted(name for name, result in results().items() if result.where == "native")
    if os.environ.get("SECATEUR_WRITE_NATIVE_NODES"):
        KEPT.write_text("\n".join(native) + "\n", encoding="utf-8")
    kept = set(KEPT.read_text(encoding="utf-8").split("\n")) - {""}
    lost = sorted(kept - set(native))
    assert not lost, "no longer native: " + ", ".join(f"{name} ({_why(name)})" for name in lost)
    print(f"{len(native)} native, {len(set(native) - kept)} of them not in {KEPT.name}")


def _why(name: str) -> str:
    result = results().get(name)
    return "no such case" if result is None else result.wrong or result.skipped or result.where


def _peer(case: Case) -> list[np.ndarray] | None:
    """What ONNX Runtime makes of the same model, None where it cannot run it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            case.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session.run([value.name for value in case.model.graph.output], dict(case.feeds))
    except Exception:  # whatever it says; onnxruntime's exceptions have no common class
        return None


def _plain(array: np.ndarray) -> np.ndarray:
    """As numbers that NumPy can compare."""
    return array if array.dtype.kind in "fiub" and array.dtype.itemsize > 2 else array.astype(np.float64)


@pytest.mark.parametrize("name", ["test_relu", "test_conv_with_strides_padding frozen", "test_gemm_alpha frozen"])
def test_what_networks_are_made_of_is_native(name: str) -> None:
    assert results()[name] == Result("native")
