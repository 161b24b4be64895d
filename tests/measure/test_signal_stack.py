import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from secateur.measure import Subject, runtimes
from secateur.measure.signal_stack import kept_signal_stack, signal_stack

NAMES = ("onnxruntime", "openvino", "secateur")

linux = pytest.mark.skipif(sys.platform != "linux", reason="signal stacks are looked at on Linux only")


def _left_behind(name: str) -> str:
    """A program that loads two networks and drops them in the same order, then takes a signal."""
    return textwrap.dedent(f"""
        import faulthandler, gc, signal, sys
        faulthandler.enable()
        from secateur.measure import Subject, runtimes
        from pathlib import Path
        load = lambda: runtimes[{name!r}]().load(Subject("tiny", onnx=Path(sys.argv[1])), 1, 1)
        first, second = load(), load()
        del first
        gc.collect()
        del second
        gc.collect()
        signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
        signal.raise_signal(signal.SIGUSR1)
    """)


@linux
@pytest.mark.parametrize("name", NAMES)
def test_signals_are_handled_when_networks_are_gone(name: str, make_network: Callable[..., Path]) -> None:
    reason = runtimes[name]().available()
    if reason is not None:
        pytest.skip(reason)
    command = [sys.executable, "-c", _left_behind(name), str(make_network())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@linux
@pytest.mark.parametrize("name", NAMES)
def test_runtimes_leave_the_signal_stack_alone(name: str, make_network: Callable[..., Path]) -> None:
    reason = runtimes[name]().available()
    if reason is not None:
        pytest.skip(reason)
    before = signal_stack()
    run = runtimes[name]().load(Subject("tiny", onnx=make_network()), 1, 1)
    assert signal_stack() == before
    del run
    assert signal_stack() == before


@linux
def test_the_stack_comes_back_after_an_error() -> None:
    before = signal_stack()
    with pytest.raises(ValueError, match="as expected"), kept_signal_stack():
        raise ValueError("as expected")
    assert signal_stack() == before
