"""`secateur frontier` on the command line: points, files, a call that goes on, one sentence for mistakes."""

import json

import pytest

import tiny_networks
from secateur import api
from secateur.zoo import preprocessing_of

TINY = ("frontier", "tiny_networks:network", "--data", "tiny_networks:images", "--images-count", "24")


def test_points_are_drawn_and_a_second_call_only_adds(call, tmp_path):
    out = tmp_path / "front"
    code, text, err = call(*TINY, "--zeros", "0.2,0.4", "--out", out)
    assert code == 0, err
    assert str(out / "frontier.png") in text and (out / "frontier.png").stat().st_size > 1000
    assert (out / "frontier.svg").is_file()
    first = json.loads((out / "frontier.json").read_text())
    assert [point["target"]["kind"] for point in first["points"]] == ["sparsity", "sparsity", "macs", "macs"]
    assert all("top1" in point["figures"] for point in first["points"])
    kept = {path: path.stat().st_mtime_ns for path in (out / "points").iterdir()}
    code, _, err = call(*TINY, "--zeros", "0.2,0.3,0.4", "--against", "sparsity", "--out", out)
    assert code == 0, err
    more = json.loads((out / "frontier.json").read_text())["points"]
    assert [more[0], more[2]] == first["points"][:2]
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


def test_an_onnx_file_is_measured_as_the_network_that_it_was_exported_from(call, tmp_path):
    network = tiny_networks.network().eval()
    file = tmp_path / "net.onnx"
    api.export_onnx(network, file)
    before = file.read_bytes()
    points = ("--data", "tiny_networks:images", "--images-count", "24", "--zeros", "0.2,0.5", "--against", "macs,bytes")
    stated = json.dumps(preprocessing_of(network).to_dict())
    code, _, err = call("frontier", file, "--preprocessing", stated, *points, "--out", tmp_path / "file")
    assert code == 0, err
    code, _, err = call("frontier", "tiny_networks:network", *points, "--out", tmp_path / "torch")
    assert code == 0, err
    assert file.read_bytes() == before and (tmp_path / "file" / "frontier.png").stat().st_size > 1000
    own, other = (json.loads((tmp_path / kind / "frontier.json").read_text()) for kind in ("file", "torch"))
    # Norms are part of the file's weights, so that it has fewer parameters.
    assert own["dense"]["macs"] == other["dense"]["macs"]
    assert own["dense_figures"]["same_class"] == 100.0
    assert own["dense_figures"]["top1"] == other["dense_figures"]["top1"]
    assert len(own["points"]) == 4
    for found in own["points"]:
        assert {"divergence", "same_class", "top1", "top5"} == set(found["figures"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*TINY, "--against", "watts"), "unknown kind of cost 'watts'"),
        ((*TINY, "--zeros", "1.5"), "1.5"),
        ((*TINY, "--zeros", "many"), "many"),
        ((*TINY, "--pattern", "1x5x"), "unknown pattern '1x5x'"),
        (("frontier", "tiny_networks:network"), "nothing to calibrate with"),
        (("frontier", "tiny_networks:network", "--images", "nowhere"), "nowhere"),
        (("frontier", "mobilenet_v1_100_imagenet", "--images", "digits"), "no weights are published"),
    ],
)
def test_mistakes_are_one_sentence(call, tmp_path, arguments, words):
    code, out, err = call(*arguments, "--out", tmp_path / "front")
    assert (code, out) == (2, "") and words in err and "Traceback" not in err
    assert not (tmp_path / "front" / "frontier.json").exists()
