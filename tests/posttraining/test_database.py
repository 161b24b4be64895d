"""Options of layers on disk: what comes back, what is reused, what is damaged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import small_database as small
from secateur.errors import ArtifactError, PosttrainingError
from secateur.posttraining import database_filling as module
from secateur.posttraining.database import DENSE, Database
from secateur.posttraining.database_filling import LEVELS, build_database
from secateur.posttraining.gathering import gather_grams
from secateur.posttraining.problem import output_error
from secateur.posttraining.second_order import compress_layer
from secateur.posttraining.stored_grams import StoredGrams
from secateur.posttraining.subject_torch import TorchSubject
from secateur.sparsity import parse_pattern
from secateur.sparsity.compact import stored_bytes


@pytest.fixture(scope="module")
def subject():
    return small.subject()


@pytest.fixture(scope="module")
def grams(subject):
    return small.grams(subject)


@pytest.fixture(scope="module")
def database(tmp_path_factory, subject, grams):
    """Of several patterns, with shifts; only read."""
    patterns = [parse_pattern(spec) for spec in ("unstructured", "2:4", "1x4")]
    return build_database(subject, grams, patterns, tmp_path_factory.mktemp("db"), small.LEVELS, centered=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory, subject):
    return small.database(tmp_path_factory.mktemp("built"), subject)


@pytest.fixture
def plain(tmp_path, built):
    """A copy that may be damaged."""
    shutil.copytree(built.folder, tmp_path, dirs_exist_ok=True)
    return Database.open(tmp_path)


def test_the_default_levels_are_those_of_the_specification():
    densities = [1 - level for level in LEVELS]
    assert densities == pytest.approx([0.9**k for k in range(1, 44)])
    assert 0.01 < densities[-1] < 0.011


def test_every_option_is_what_compress_layer_gives(database, subject, grams):
    for layer in subject.layers:
        rows = database.options(layer.name)
        weight = subject.weight(layer.name)
        assert (rows[0].pattern, rows[0].level, rows[0].zeros, rows[0].error) == (DENSE, 0.0, 0, 0.0)
        assert torch.equal(database.load(layer.name, 0).weight, weight)
        index = 1
        for spec in ("unstructured", "2:4", "1x4"):
            rule = parse_pattern(spec)
            if rule.applies(layer.filter_shape, layer.groups, layer.kind) is not None:
                assert all(row.pattern != spec for row in rows)
                continue
            levels = small.LEVELS if rule.fixed_level is None else [rule.fixed_level]
            for wanted in compress_layer(weight, grams[layer.name], rule, levels, centered=True):
                found, row = database.load(layer.name, index), rows[index]
                assert torch.equal(found.weight, wanted.weight) and torch.equal(found.mask, wanted.mask)
                assert torch.equal(found.shift, wanted.shift)
                assert (found.error, found.level) == (wanted.error, wanted.level) == (row.error, row.level)
                assert row.pattern == spec and row.zeros == int((wanted.weight == 0).sum())
                assert row.bytes == min(stored_bytes(wanted.weight).values())
                index += 1
        assert index == len(rows)


def test_the_errors_are_those_of_the_layers_outputs(built, subject, grams):
    for name in built.layers:
        for index, row in enumerate(built.options(name)):
            found = output_error(subject.weight(name), built.load(name, index).weight, grams[name])
            assert row.error == pytest.approx(found, rel=1e-6, abs=1e-12)


def test_the_index_alone_gives_the_database_back(database):
    again = Database.open(database.folder)
    assert again.layers == database.layers and again.key == database.key
    assert torch.equal(again.load("point", 3).weight, database.load("point", 3).weight)
    assert torch.equal(again.bias("body"), small.subject().bias("body"))
    assert again.bias("stem") is None


def test_one_option_is_read_alone(database, monkeypatch):
    read = []

    class Watched:
        def __init__(self, *args, **kwargs):
            self.file = safe_open(*args, **kwargs)

        def __enter__(self):
            self.file.__enter__()
            return self

        def get_tensor(self, name):
            read.append(name)
            return self.file.get_tensor(name)

        def __exit__(self, *error):
            self.file.__exit__(*error)

    monkeypatch.setattr("secateur.posttraining.database.safe_open", Watched)
    database.load("point", 2)
    assert sorted(read) == ["2.mask", "2.shift", "2.values"]


def test_a_second_pass_computes_nothing(plain, subject, monkeypatch):
    monkeypatch.setattr(module, "compress_layer", None)
    assert small.database(plain.folder, subject).layers == plain.layers


@pytest.mark.parametrize(
    "change", [{"levels": (0.5,)}, {"patterns": ("1x4",)}, {"damping": 0.1}, {"centered": True}, {"rounding": "ceil"}]
)
def test_other_settings_are_other_options(plain, subject, grams, change):
    own = TorchSubject(subject.model.point, subject.preprocessing)
    rules = [parse_pattern(spec) for spec in change.pop("patterns", ("unstructured",))]
    levels = change.pop("levels", small.LEVELS)
    other = build_database(own, {"": grams["point"]}, rules, plain.folder, levels, **change)
    assert other.layers[""].key != plain.layers["point"].key
    same = build_database(own, {"": grams["point"]}, [parse_pattern("unstructured")], plain.folder, small.LEVELS)
    assert same.layers[""].key == plain.layers["point"].key


def test_other_weights_images_and_importance_are_other_options(tmp_path, subject, grams):
    rule = [parse_pattern("unstructured")]
    keys = [
        build_database(subject, grams, rule, tmp_path, [0.5]).layers["point"].key,
        build_database(small.subject(1), grams, rule, tmp_path, [0.5]).layers["point"].key,
        build_database(
            subject, grams, rule, tmp_path, [0.5], importance={"point": torch.ones(len(subject.weight("point")))}
        ).layers["point"].key,
        build_database(
            subject, grams | {"point": replace(grams["point"], matrix=grams["point"].matrix * 2)}, rule, tmp_path, [0.5]
        ).layers["point"].key,
    ]  # fmt: skip
    assert len(set(keys)) == 4


def test_layers_that_stay_dense_say_why(tmp_path, subject, grams):
    some = {name: gram for name, gram in grams.items() if name != "stem"}
    database = build_database(subject, some, [parse_pattern("1x4")], tmp_path, [0.5])
    assert database.skipped["stem"] == "no Gram matrix of its inputs was gathered"
    assert database.skipped.keys() == {"stem", "depthwise"} and "1x4" in database.skipped["depthwise"]
    assert [row.pattern for row in database.options("stem")] == [DENSE]
    with pytest.raises(PosttrainingError, match="stem: has no options besides the dense layer"):
        database.load("stem", 0)


def file_of(database, name):
    return database.folder / f"{database.layers[name].key}.safetensors"


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "missing"])
def test_a_damaged_file_is_a_sentence_and_the_next_pass_repairs_it(plain, subject, damage):
    path, before = file_of(plain, "point"), plain.load("point", 2)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        flipped = bytearray(content)
        with safe_open(path, framework="numpy") as file:
            values = file.get_tensor("2.values").tobytes()
        flipped[content.index(values) + 3] ^= 64
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "flipped": bytes(flipped)}[damage])
    with pytest.raises(ArtifactError, match=r"the options of point cannot be read: .*Build the database again"):
        plain.load("point", 2)
    again = small.database(plain.folder, subject).load("point", 2)
    assert torch.equal(again.weight, before.weight)


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 2},
        {"layers": 3},
        {"layers": [{}]},
        {"layers": [{"layer": {"name": "a", "kind": "conv", "shape": [0], "groups": 1, "shared": []}}]},
    ],
)
def test_a_damaged_index_is_a_sentence(plain, damage):
    index = plain.folder / "index.json"
    value = json.loads(index.read_text())
    index.write_text(json.dumps(value | damage))
    with pytest.raises(ArtifactError, match=r"index\.json: this is not the index of a database"):
        Database.open(plain.folder)
    index.write_text("{")
    with pytest.raises(ArtifactError, match="not readable as JSON"):
        Database.open(plain.folder)


@pytest.mark.parametrize(
    ("field", "value"), [("error", -1.0), ("zeros", 10**9), ("level", float("inf")), ("bytes", "many"), ("more", 1)]
)
def test_an_index_with_figures_that_cannot_be_is_refused(plain, field, value):
    index = plain.folder / "index.json"
    content = json.loads(index.read_text())
    content["layers"][1]["options"][1][field] = value
    index.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="this is not the index of a database"):
        Database.open(plain.folder)


def test_a_key_that_leads_out_of_the_folder_is_refused(plain):
    index = plain.folder / "index.json"
    content = json.loads(index.read_text())
    content["layers"][1]["key"] = "../" * 20 + "etc/x"
    index.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="has the key"):
        Database.open(plain.folder)


def test_what_cannot_be_asked(tmp_path, subject, grams, built):
    with pytest.raises(PosttrainingError, match=r"unknown layer of the database 'pont'\. Did you mean 'point'"):
        built.options("pont")
    with pytest.raises(PosttrainingError, match="point: has the options 0 to 4, not 5"):
        built.load("point", 5)
    for levels in ([], [0.0], [1.5]):
        with pytest.raises(PosttrainingError, match="levels above 0 and up to 1"):
            build_database(subject, grams, [parse_pattern("1x4")], tmp_path, levels)
    with pytest.raises(PosttrainingError, match="needs patterns"):
        build_database(subject, grams, [], tmp_path)


def test_error_curves_are_a_sensitivity_table(database):
    table = database.sensitivity("unstructured")
    assert table.costs("point") == {0.0: 0.0} | {
        row.level: row.error for row in database.options("point") if row.pattern == "unstructured"
    }
    assert "unstructured" in str(table)
    with pytest.raises(PosttrainingError, match="Known: 1x4, 2:4, unstructured"):
        database.sensitivity("unstructurd")


KILLED = """
import sys
sys.path[:0] = {paths!r}
import small_database as small
from secateur.posttraining import database_filling as module
compress, done = module.compress_layer, []
def slow(*args, **kwargs):
    if len(done) == 3:
        print("there", flush=True)
        import time; time.sleep(60)
    done.append(1)
    return compress(*args, **kwargs)
module.compress_layer = slow
small.database(sys.argv[1])
"""


def test_a_killed_pass_goes_on_where_it_was(tmp_path, monkeypatch):
    here = Path(__file__).parent.parent
    code = KILLED.format(paths=[str(here)])
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"there\n"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    calls = []
    compress = module.compress_layer
    monkeypatch.setattr(module, "compress_layer", lambda *args, **kw: calls.append(1) or compress(*args, **kw))
    started = time.monotonic()
    database = small.database(tmp_path)
    assert len(calls) == len(database.layers) - 3
    assert time.monotonic() - started < 60


def test_gram_matrices_on_disk_are_not_read_for_options_that_are_there(tmp_path, subject, monkeypatch):
    gathered = gather_grams(subject, small.batches, ["point", "body"], folder=tmp_path / "grams")
    first = build_database(subject, gathered, [parse_pattern("unstructured")], tmp_path / "db", [0.5])
    monkeypatch.setattr(StoredGrams, "__getitem__", None)
    assert build_database(subject, gathered, [parse_pattern("unstructured")], tmp_path / "db", [0.5]).key == first.key
