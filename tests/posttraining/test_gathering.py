"""Streamed, in passes, killed and taken up again: always the Gram of all columns."""

import copy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.errors import ArtifactError, PosttrainingError
from secateur.posttraining import gathering
from secateur.posttraining.gathering import gather_grams
from secateur.posttraining.geometry import columns_of
from secateur.posttraining.gram import GramSum
from secateur.posttraining.subject_torch import TorchSubject
from secateur.zoo import Preprocessing
from tiny_networks import Tiny

NAMES = ["stem", "body", "depthwise", "point", "classifier"]


@pytest.fixture
def subject() -> TorchSubject:
    torch.manual_seed(0)
    return TorchSubject(Tiny())


def batches(count=3, size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, 3, 16, 16, generator=generator) for _ in range(count)]


def same(a, b):
    assert list(a) == list(b)
    for name in a:
        one, other = a[name], b[name]
        assert one.columns == other.columns
        for part in ("matrix", "mean", "cross", "dense_mean"):
            x, y = getattr(one, part), getattr(other, part)
            assert (x is None) == (y is None)
            assert x is None or torch.equal(x, y)


def inputs_of(subject, name, images):
    seen: list[torch.Tensor] = []
    subject.run(images, {name: lambda x: seen.append(x.clone())})
    return seen


def test_without_a_limit_it_is_the_mean_over_all_columns(subject):
    grams = gather_grams(subject, batches, reversed(NAMES), limit=None)
    assert list(grams) == NAMES
    for name in NAMES:
        inputs = torch.cat([x for batch in batches() for x in inputs_of(subject, name, batch)])
        columns = columns_of(inputs, subject.geometry(name)).double()
        assert grams[name].columns == columns.shape[2]
        torch.testing.assert_close(grams[name].matrix, columns @ columns.mT / columns.shape[2], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(grams[name].mean, columns.mean(2), rtol=1e-5, atol=1e-6)
    assert grams["depthwise"].matrix.shape == (16, 9, 9)


def test_the_limit_is_per_batch_and_the_draw_per_layer_and_batch(subject):
    grams = gather_grams(subject, batches, NAMES, limit=10)
    assert {grams[name].columns for name in NAMES} == {30, 12}  # the classifier has 4 columns a batch
    same(grams, gather_grams(subject, batches, NAMES, limit=10))
    same({"body": grams["body"]}, gather_grams(subject, batches, ["body"], limit=10))
    other = gather_grams(subject, batches, NAMES, limit=10, seed=1)
    assert not torch.equal(other["body"].matrix, grams["body"].matrix)
    # Two equal batches give other positions: more is known than of one.
    twice = gather_grams(subject, lambda: [batches()[0]] * 2, ["stem"], limit=10)
    once = gather_grams(subject, lambda: batches()[:1], ["stem"], limit=10)
    assert not torch.allclose(twice["stem"].matrix, once["stem"].matrix)


def test_passes_do_not_change_the_result(subject, tmp_path, monkeypatch):
    whole = gather_grams(subject, batches, NAMES, limit=10)
    runs: list[list[str]] = []
    run = gathering._Job.run
    monkeypatch.setattr(
        gathering._Job, "run", lambda job, names, *rest: runs.append(list(names)) or run(job, names, *rest)
    )
    stored = gather_grams(subject, batches, NAMES, limit=10, memory=130_000, folder=tmp_path)
    assert len(runs) > 1 and [name for part in runs for name in part] == NAMES
    same(stored, whole)
    runs.clear()
    same(gather_grams(subject, batches, NAMES, limit=10, folder=tmp_path), whole)
    assert runs == []


def test_memory_is_a_bound(subject, tmp_path):
    job = gathering._Job(subject, batches, None, 130_000, None, 0, 60, None)
    for part in job.passes(NAMES):
        assert job.needed(part) <= 130_000
    assert job.needed(["body"]) >= 3 * 8 * 72 * 72
    with pytest.raises(PosttrainingError, match="give a folder"):
        gather_grams(subject, batches, NAMES, memory=130_000)
    with pytest.raises(PosttrainingError, match="body: its Gram matrix takes"):
        gather_grams(subject, batches, NAMES, memory=50_000, folder=tmp_path)


def test_a_layer_that_runs_twice_adds_both_inputs():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.conv(self.conv(x) + 1).mean((2, 3))

    subject = TorchSubject(Twice(), Preprocessing((3, 16, 16), (0.5,) * 3, (0.5,) * 3))
    gram = gather_grams(subject, batches, ["conv"], limit=None)["conv"]
    expected = GramSum()
    for batch in batches():
        first, second = inputs_of(subject, "conv", batch)
        assert torch.equal(first, batch)
        expected.add(first, subject.geometry("conv"))
        expected.add(second, subject.geometry("conv"))
    torch.testing.assert_close(gram.matrix, expected.result().matrix, rtol=0, atol=0)


@pytest.mark.parametrize("limit", [None, 12])
@pytest.mark.parametrize("dense_bytes", [1 << 29, 1])
def test_cross_is_with_the_inputs_of_the_dense_network(subject, limit, dense_bytes, monkeypatch):
    monkeypatch.setattr(gathering, "DENSE_BYTES", dense_bytes)
    torch.manual_seed(0)
    sparse = TorchSubject(Tiny())
    weight = sparse.weight("stem")
    sparse.store_("stem", weight, mask=weight.abs() > weight.abs().median())
    grams = gather_grams(sparse, batches, NAMES, limit=limit, dense=subject)
    torch.testing.assert_close(grams["stem"].cross, grams["stem"].matrix, rtol=0, atol=0)
    assert grams["body"].columns == (3 * 4 * 64 if limit is None else 36)
    if limit is None:
        pairs = [
            [columns_of(inputs_of(network, "body", batch)[0], subject.geometry("body")).double() for batch in batches()]
            for network in (subject, sparse)
        ]
        dense, own = (torch.cat(columns, 2) for columns in pairs)
        torch.testing.assert_close(grams["body"].cross, dense @ own.mT / own.shape[2], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(grams["body"].dense_mean, dense.mean(2), rtol=1e-5, atol=1e-6)
    same(grams, gather_grams(sparse, batches, NAMES, limit=limit, dense=subject))


def test_cross_is_kept_on_disk(subject, tmp_path):
    grams = gather_grams(subject, batches, ["body"], limit=10, dense=subject, folder=tmp_path)
    same(grams, gather_grams(subject, batches, ["body"], limit=10, dense=subject))
    plain = gather_grams(subject, batches, ["body"], limit=10, folder=tmp_path)
    assert plain["body"].cross is None and plain.key("body") != grams.key("body")


def test_in_place_activations_do_not_spoil_dense_inputs():
    class Spoils(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            x = x + 0
            y = self.a(x)
            return (y + self.b(x.relu_())).mean((2, 3))

    torch.manual_seed(0)
    subject = TorchSubject(Spoils(), Preprocessing((3, 16, 16), (0.5,) * 3, (0.5,) * 3))
    gram = gather_grams(subject, batches, ["a", "b"], limit=None, dense=subject)["a"]
    assert torch.equal(gram.cross, gram.matrix)


def test_the_result_follows_weights_images_and_settings(subject, tmp_path):
    settings = [
        {},
        {"limit": 11},
        {"seed": 1},
        {"dense": subject},
        {"batches": lambda: batches(seed=1)},
        {"batches": lambda: batches(2)},
    ]
    keys = set()
    for change in settings:
        options = {"limit": 10, "folder": tmp_path, **change}
        keys.add(gather_grams(subject, options.pop("batches", batches), ["stem"], **options).key("stem"))
    subject.store_("classifier", subject.weight("classifier") * 2)
    keys.add(gather_grams(subject, batches, ["stem"], limit=10, folder=tmp_path).key("stem"))
    assert len(keys) == len(settings) + 1


def test_a_damaged_gram_is_gathered_again_or_said(subject, tmp_path, capfd):
    whole = gather_grams(subject, batches, ["stem", "body"], limit=10)
    stored = gather_grams(subject, batches, ["stem", "body"], limit=10, folder=tmp_path)
    path = tmp_path / f"{stored.key('stem')}.safetensors"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="Gram matrix of stem has gone or is damaged"):
        stored["stem"]
    same(gather_grams(subject, batches, ["stem", "body"], limit=10, folder=tmp_path), whole)
    assert "computed again" in capfd.readouterr().err


def test_layers_that_are_not_reached_are_left_out_and_said(capfd):
    class Idle(Tiny):
        def __init__(self):
            super().__init__()
            self.idle = nn.Linear(3, 3)

    assert list(gather_grams(TorchSubject(Idle()), batches, ["idle", "stem"])) == ["stem"]
    assert "idle: is not reached" in capfd.readouterr().err


def test_what_has_no_gram_is_a_sentence(subject):
    class Up(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 2, 2)

        def forward(self, x):
            return self.up(x).mean((2, 3))

    small = Preprocessing((3, 16, 16), (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(PosttrainingError, match="up: a transposed convolution"):
        gather_grams(TorchSubject(Up(), small), batches, ["up"])
    with pytest.raises(PosttrainingError, match="at least one image"):
        gather_grams(subject, list, NAMES)
    with pytest.raises(PosttrainingError, match="stem: the layer's inputs are not finite"):
        gather_grams(subject, lambda: [torch.full((2, 3, 16, 16), torch.nan)], ["stem"])
    assert dict(gather_grams(subject, batches, [])) == {}


def test_a_pass_that_stops_goes_on_bit_for_bit(subject, tmp_path):
    dense = TorchSubject(copy.deepcopy(subject.model))
    whole = gather_grams(subject, lambda: batches(5), NAMES, limit=10, dense=dense)
    options = {"limit": 10, "dense": dense, "folder": tmp_path, "save_seconds": 0}

    class StopError(Exception):
        pass

    calls = []

    def interrupted():
        calls.append(1)
        stream = batches(5)
        if len(calls) == 3:  # after the first look and the hash
            yield from stream[:4]
            raise StopError
        yield from stream

    with pytest.raises(StopError):
        gather_grams(subject, interrupted, NAMES, **options)
    assert len(list(tmp_path.iterdir())) == 1
    seen = []
    subject.model.stem.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    same(gather_grams(subject, lambda: batches(5), NAMES, **options), whole)
    assert seen.count(4) < 5  # batches of 4; single images find the order
    assert len(list(tmp_path.iterdir())) == len(NAMES)


def test_a_gram_that_has_gone_since_the_pass_stopped_is_gathered_with_it(subject, tmp_path):
    whole = gather_grams(subject, lambda: batches(5), ["stem", "body"], limit=10)
    options = {"limit": 10, "folder": tmp_path, "save_seconds": 0}
    stem = gather_grams(subject, lambda: batches(5), ["stem"], **options).key("stem")
    calls = []

    def interrupted():
        calls.append(1)
        return batches(5) if len(calls) < 3 else (batch.reshape(-1) if i == 4 else batch for i, batch in saved)

    saved = list(enumerate(batches(5)))
    with pytest.raises(RuntimeError):
        gather_grams(subject, interrupted, ["stem", "body"], **options)
    (tmp_path / f"{stem}.safetensors").unlink()
    same(gather_grams(subject, lambda: batches(5), ["stem", "body"], **options), whole)
    assert len(list(tmp_path.iterdir())) == 2


CHILD = """
import sys, time, torch
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_gathering import NAMES, TorchSubject, Tiny, batches, gather_grams
torch.manual_seed(0)
def slow():
    for batch in batches(6):
        time.sleep(0.1)
        yield batch
gather_grams(TorchSubject(Tiny()), slow, NAMES, limit=10, memory=130_000, folder=Path(sys.argv[1]), save_seconds=0)
"""


def test_killed_it_goes_on(subject, tmp_path):
    folder = tmp_path / "grams"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder), str(Path(__file__).parent)])
    try:
        deadline = time.monotonic() + 60
        # The first pass has two layers; the third file is of a later pass.
        while len(list(folder.glob("*.safetensors"))) < 3:
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    stored = gather_grams(subject, lambda: batches(6), NAMES, limit=10, memory=130_000, folder=folder)
    same(stored, gather_grams(subject, lambda: batches(6), NAMES, limit=10))
    left = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    assert len(left) == len(NAMES)
    assert len(left.items() & kept.items()) >= 2  # finished before it was killed, and not touched again
