import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.errors import ModelError, WeightsError
from secateur.zoo import Preprocessing, classes_of, model, model_sources, models, preprocessing_of
from secateur.zoo.catalogue import own_models


@pytest.mark.parametrize("name", [name for name in own_models if "110" not in name])
def test_own_models_have_the_classes_and_input_they_say(name: str) -> None:
    module = model(name, classes=7)
    size = module.preprocessing.input_size
    if size[1] > 32:  # a smaller image through the same layers
        size = (3, 64, 64)
    with torch.inference_mode():
        assert module(torch.zeros(2, *size)).shape == (2, 7)
    assert classes_of(module) == 7 and not module.training


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "resnet50", "vgg16", "densenet161", "efficientnet_b0", "mobilenet_v2"),
        *("mobilenet_v3_small", "mobilenet_v3_large", "regnet_x_400mf", "regnet_y_400mf", "squeezenet1_1"),
        *(
            "shufflenet_v2_x0_5",
            "mobilenetv2_050",
            "regnetx_002",
            "regnetx_004",
            "regnetx_006",
            "regnety_002",
        ),
        *("regnety_004", "mobilenetv1_100", "mobilenetv2_200"),
    ],
)
def test_the_seeds_networks_are_listed_once(name: str) -> None:
    assert models(name) == [name]


def test_own_names_come_first_and_torchvision_before_timm() -> None:
    sources = model_sources("*")
    kinds = [source.split(":")[0] for _, source, _ in sources]
    assert kinds == sorted(kinds, key=["secateur", "torchvision", "timm"].index)
    by_name = {name: (source, pretrained) for name, source, pretrained in sources}
    assert by_name["resnet50"] == ("torchvision", True) and by_name["mobilenetv2_050"] == ("timm", True)
    assert not by_name["resnet20_cifar10"][1]


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenetv2_050", "mobilenet_v1_050_imagenet"])
def test_options_build_the_same_network_again(name: str) -> None:
    first = model(name, classes=5, seed=3, input_size=64, crop_pct=1.0)
    options = json.loads(json.dumps(first.zoo_options))
    again = model(**options, seed=3)
    assert again.zoo_name == name and again.preprocessing == first.preprocessing
    assert again.preprocessing.input_size == (3, 64, 64) and classes_of(again) == 5
    for key, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), key


def test_seed_decides_the_weights_and_nothing_else_is_disturbed() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    a, b, c = (model("resnet20_cifar10", seed=seed).conv1.weight for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_option_a_shortcuts_have_no_weights() -> None:
    a, b = (sum(p.numel() for p in model(name).parameters()) for name in ("resnet20_cifar10", "resnet20b_cifar10"))
    assert a == 269_722  # He et al.: 0.27 M
    assert b - a == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


@pytest.mark.parametrize(("depth", "parameters"), [(32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)])
def test_parameter_counts_of_the_paper(depth: int, parameters: int) -> None:
    assert sum(p.numel() for p in model(f"resnet{depth}_cifar10").parameters()) == parameters


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'resnet20_cifar'\. Did you mean 'resnet20_cifar10'\?"):
        model("resnet20_cifar")
    with pytest.raises(ModelError, match=r"unknown option 'pading'\. Did you mean 'padding'"):
        model("mobilenet_v1_100_imagenet", pading="torch")
    with pytest.raises(ModelError, match="padding 'same' is not one of tensorflow, torch"):
        model("mobilenet_v1_100_imagenet", padding="same")
    with pytest.raises(ModelError, match="torchvision cannot build it"):
        model("squeezenet1_1", depth=3)
    with pytest.raises(ModelError, match="at least 1"):
        model("resnet20_cifar10", classes=0)


def test_own_models_say_that_nothing_is_published() -> None:
    with pytest.raises(WeightsError, match=r"no weights are published for it; pass a \.safetensors"):
        model("resnet20_cifar10", weights="pretrained")


def test_failed_download_says_to_pass_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"could not be downloaded \(OSError: no route to host\); pass a"):
        model("squeezenet1_1", weights="pretrained")


def test_pretrained_with_other_classes_keeps_all_but_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    published = model("squeezenet1_1", seed=9).state_dict()
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", lambda *args, **kwargs: published)
    module = model("squeezenet1_1", weights="pretrained", classes=4)
    assert torch.equal(module.features[0].weight, published["features.0.weight"])
    assert classes_of(module) == 4
    assert model("squeezenet1_1", weights="pretrained").classifier[1].weight.equal(published["classifier.1.weight"])


@pytest.fixture
def user_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "users_networks.py").write_text(
        "from torch import nn\n"
        "def plain(classes=3, width=2):\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, classes))\n"
        "def fixed():\n    return nn.Linear(4, 4)\n"
        "def described():\n"
        "    module = nn.Linear(4, 4)\n"
        "    module.preprocessing = {'input_size': [3, 2, 2], 'mean': [0, 0, 0], 'std': [1, 1, 1]}\n"
        "    return module\n"
        "def nothing():\n    return None\n"
        "def fails():\n    raise KeyError('gone')\n"
        "constant = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "users_networks", raising=False)
    return "users_networks"


def test_networks_of_the_users_own_code(user_code: str) -> None:
    assert classes_of(model(f"{user_code}:plain", classes=5, width=1)) == 5
    described = model(f"{user_code}:described")
    assert preprocessing_of(described) == Preprocessing((3, 2, 2), (0, 0, 0), (1, 1, 1))
    given = model(f"{user_code}:plain", input_size=2, mean=0, std=1)
    assert preprocessing_of(given).input_size == (3, 2, 2)
    assert model(**given.zoo_options).preprocessing == given.preprocessing


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("nothing", "must return a torch.nn.Module, it returned a NoneType"),
        ("fails", "failed with KeyError"),
        ("absent", "no callable named 'absent'"),
        ("constant", "no callable named 'constant'"),
    ],
)
def test_faults_of_the_users_own_code(user_code: str, what: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        model(f"{user_code}:{what}")


def test_users_network_of_other_classes_than_asked(user_code: str) -> None:
    with pytest.raises(ModelError, match="network of 4 classes, 5 are wanted"):
        model(f"{user_code}:fixed", classes=5)
    with pytest.raises(ModelError, match="cannot be imported: ModuleNotFoundError"):
        model("no_such_module_at_all:build")


def test_preprocessing_is_never_guessed(user_code: str) -> None:
    with pytest.raises(ModelError, match="does not say how its images are prepared"):
        preprocessing_of(model(f"{user_code}:fixed"))
    with pytest.raises(ModelError, match="Linear does not say"):
        preprocessing_of(nn.Linear(2, 2))


def test_no_weights_may_be_said_in_a_word() -> None:
    said, plain = (model("resnet20_cifar10", seed=3, weights=weights) for weights in ("none", None))
    assert all(torch.equal(a, b) for a, b in zip(said.parameters(), plain.parameters(), strict=True))
