"""How images are prepared for an ONNX file: the user's word, a network's name, the file's own, or an error."""

import json

import onnx
import pytest
from onnx import TensorProto, helper

from secateur.errors import RecipeError, SecateurError
from secateur.zoo import Preprocessing, onnx_preprocessing
from secateur.zoo.preprocessing import IMAGENET_MEAN, IMAGENET_STD


def model(sides=("n", 3, 20, 24), **metadata):
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, list(sides))
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    built = helper.make_model(helper.make_graph([helper.make_node("Relu", ["input"], ["out"])], "g", [given], [out]))
    for key, value in metadata.items():
        built.metadata_props.add(key=key, value=value)
    return built


def test_a_text_takes_its_size_from_the_file():
    found = onnx_preprocessing(model(), "a.onnx", stated="ImageNet mean/std on 0..1", crop_pct=1.0)
    assert found == Preprocessing((3, 20, 24), IMAGENET_MEAN, IMAGENET_STD, crop_pct=1.0)
    assert onnx_preprocessing(model(), "a.onnx", stated="x/127.5-1").std == (0.5,) * 3


def test_json_text_and_json_file_say_the_same(tmp_path):
    fields = {"mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3], "channels": "bgr", "input_size": [3, 20, 24]}
    (tmp_path / "images.json").write_text(json.dumps(fields))
    found = onnx_preprocessing(model(), "a.onnx", stated=json.dumps(fields))
    assert found == onnx_preprocessing(model(), "a.onnx", stated=str(tmp_path / "images.json"))
    assert (found.mean, found.channels) == ((0.4, 0.5, 0.6), "bgr")


def test_the_file_itself_and_a_networks_name():
    own = Preprocessing((3, 20, 24), (0.1,) * 3, (0.9,) * 3)
    stating = model(preprocessing=json.dumps(own.to_dict()))
    assert onnx_preprocessing(stating, "a.onnx") == own
    assert onnx_preprocessing(stating, "a.onnx", stated="x/127.5-1").mean == (0.5,) * 3
    assert onnx_preprocessing(model(), "a.onnx", name="resnet20_cifar10").input_size == (3, 32, 32)


@pytest.mark.parametrize(
    ("sides", "metadata", "given", "sentence"),
    [
        (("n", 3, 20, 24), {}, {}, "does not say how its images are prepared"),
        (("n", 3, 20, 24), {"preprocessing": "{"}, {}, "is damaged"),
        (("n", 3, 20, 24), {"preprocessing": "[" * 100_000}, {}, "is damaged"),
        (("n", 3, 20, 24), {"preprocessing": "7"}, {}, "is damaged"),
        (("n", 3, 20, 24), {"preprocessing": '{"mean": [1, 2]}'}, {}, "mean"),
        (("n", 3, "h", "w"), {}, {"stated": "x/127.5-1"}, "leaves the size of its images open"),
        (("n", 3, 20, 24), {}, {"stated": "mean of everything"}, "is not understood"),
        (("n", 3, 20, 24), {}, {"stated": '{"mena": 1}'}, "mena"),
        (("n", 3, 20, 24), {}, {"stated": "nowhere.json"}, "no such file"),
        (("n", 3, 20, 24), {}, {"stated": "nowhere.safetensors"}, "no such weights file"),
        (("n", 3, 20, 24), {}, {"stated": "x/127.5-1", "name": "resnet20_cifar10"}, "give one of them"),
        (("n", 3, 20, 24), {}, {"name": "resnet20_cifar"}, "Did you mean"),
        (("n", 3, 20, 24), {}, {"stated": "x/127.5-1", "crop_pct": 2.0}, "crop_pct"),
    ],
)
def test_what_is_not_said_or_damaged_is_one_sentence(sides, metadata, given, sentence):
    with pytest.raises(SecateurError, match=sentence.replace("(", "\\(")) as caught:
        onnx_preprocessing(model(sides, **metadata), "a.onnx", **given)
    assert "\n" not in str(caught.value)


def test_a_model_without_inputs_leaves_the_size_open():
    with pytest.raises(RecipeError, match="leaves the size"):
        onnx_preprocessing(onnx.ModelProto(), "a.onnx", stated="x/127.5-1")
