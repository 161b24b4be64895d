"""Levels from files: the three formats, and files that are damaged, hostile, or meant for another network."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import SparsityError
from secateur.sparsity import read_levels
from secateur.sparsity.levels_file import read_analysis

NAMES = ("conv1", "layer1.0", "fc")


def written(tmp_path: Path, text: str, name: str = "levels.txt") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def analysis(tmp_path: Path, levels: str | None = None, chosen: str | None = None) -> Path:
    """The two tables that MSBench writes, for four trials and two targets."""
    given = {"module.conv1": [0.5, 0.2, 0.3, 0.0], "module.fc": [0.9, 0.1, 0.4, 1.0]}
    (tmp_path / "dict_prun_table.txt").write_text(repr(given) if levels is None else levels)
    head = "search table, index and network_sparsification\n[0, 1, 2, 3]\n[.9, .1, .35, .5]\ndesire table, ...\n"
    (tmp_path / "desrie_prun_table.txt").write_text(head + (chosen or "[1, 2]\n[0.101, 0.352]\n[0.0525, 1.4795]\n"))
    return tmp_path


def test_a_list_has_one_level_a_line_in_the_order_of_the_layers(tmp_path):
    path = written(tmp_path, "# ratio.list\n0.5\n\n.25  # second\n1\n")
    assert read_levels(path, NAMES) == {"conv1": 0.5, "layer1.0": 0.25, "fc": 1.0}
    assert read_levels(path, NAMES, kept=True) == {"conv1": 0.5, "layer1.0": 0.75, "fc": 0.0}
    with pytest.raises(SparsityError, match="has 3 levels for 2 layers"):
        read_levels(path, NAMES[:2])


@pytest.mark.parametrize("text", ["conv1: 0.5\nlayer1.*: 0.25\n", '{"module.conv1": 0.5, "layer1.*": 0.25}'])
def test_a_mapping_is_yaml_or_json_and_names_may_be_globs(tmp_path, text):
    assert read_levels(written(tmp_path, text)) == {"conv1": 0.5, "layer1.*": 0.25}


def test_of_an_analysis_the_table_nearest_to_the_target_is_taken(tmp_path):
    folder = analysis(tmp_path)
    assert read_levels(folder, target=0.1) == {"conv1": 0.2, "fc": 0.1}
    assert read_levels(folder, target=0.95) == {"conv1": 0.3, "fc": 0.4}
    assert read_analysis(folder).chosen == ((1, 0.101, 0.0525), (2, 0.352, 1.4795))
    with pytest.raises(SparsityError, match="say which target"):
        read_levels(folder)


@pytest.mark.parametrize(
    "levels",
    [
        "__import__('os').system('touch hacked')",
        "{'conv1': __import__('os').getcwd()}",
        "{'conv1': [0.5] * 1000000000}",
        "{'conv1': [lambda: 0]}",
        "[1, 2]",
        "{}",
        "{1: [0.5]}",
        "{'conv1': 0.5}",
        "{'conv1': [1.5, 0, 0]}",
        "{'conv1': [float('nan')]}",
        "{'conv1': [True, True, True]}",
        "{'conv1': [1e999, 0, 0]}",
        "(" * 5000,
        "{'conv1': [0." + "9" * 5000,
        "",
    ],
)
def test_a_hostile_analysis_is_a_sentence_and_runs_nothing(tmp_path, monkeypatch, levels):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SparsityError, match=r"dict_prun_table\.txt: .*\.$"):
        read_levels(analysis(tmp_path, levels), target=0.5)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    "chosen",
    ["[9]\n[.5]\n[1.0]\n", "[-1]\n[.5]\n[1.0]\n", "[1.0]\n[.5]\n[1.0]\n", "[1]\n[.5, .6]\n[1.0]\n", "[1]\n[.5]\n",
     "[1]\n[2.0]\n[1.0]\n", "[1]\n[.5]\n['x']\n", "[]\n[]\n[]\n", "1\n2\n3\n", "[True]\n[.5]\n[1.0]\n"],
)  # fmt: skip
def test_a_choice_that_makes_no_sense_is_a_sentence(tmp_path, chosen):
    with pytest.raises(SparsityError, match=r"desrie_prun_table\.txt: .*\.$"):
        read_levels(analysis(tmp_path, chosen=chosen), target=0.5)


@pytest.mark.parametrize(
    "text",
    [
        "conv1: 1.5",
        "conv1: -0.1",
        "conv1: true",
        "conv1: half",
        "conv1: [0.5]",
        "conv1: .nan",
        "1: 0.5",
        "- 0.5\n- 0.6",
        "{",
        "{" * 3000,
        "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c]",
        "!!python/object/apply:os.system ['true']",
        "a0: &a0 {k: 0.5}\na1: &a1 {<<: [*a0, *a0]}\n",
        "conv1: 0.5\nconv1: 0.9",
        '{"conv1": 0.5, "conv1": 0.9}',
        "module.conv1: 0.5\nconv1: 0.9",
        "conv1: !!python/name:os.system",
        "0.5\n1.5\n0.1",
        "",
    ],
)
def test_a_damaged_mapping_is_a_sentence(tmp_path, text):
    with pytest.raises(SparsityError, match=r"levels\.txt: .*\.$"):
        read_levels(written(tmp_path, text), NAMES)


def test_files_that_are_missing_too_large_or_no_text(tmp_path):
    with pytest.raises(SparsityError, match=r"nothing: no such file\.$"):
        read_levels(tmp_path / "nothing")
    with pytest.raises(SparsityError, match="larger than 1 MiB"):
        read_levels(written(tmp_path, "0.5\n" * 400_000))
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(SparsityError, match="cannot be read as text"):
        read_levels(binary)
    with pytest.raises(SparsityError, match=r"dict_prun_table\.txt: no such file"):
        read_levels(tmp_path, target=0.5)


@settings(max_examples=50)
@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9.]{0,8}", fullmatch=True), st.floats(0, 1), min_size=1))
def test_what_json_holds_comes_back(tmp_path_factory, levels):
    path = written(tmp_path_factory.mktemp("levels"), json.dumps(levels))
    assert read_levels(path) == {name.removeprefix("module."): level for name, level in levels.items()}
