"""Channels taken out in rounds: smaller networks that resume, reload and are counted against the dense one."""

import pytest
import torch

from secateur import api
from secateur.errors import RecipeError, SparsityError
from secateur.graph import Census
from secateur.pipeline import Context, check, load_artifact_network, load_record, run_recipe
from secateur.pipeline.dry_run import describe
from secateur.pipeline.stages import remove_channels
from secateur.pipeline.stages.remove_channels import epochs_of
from secateur.recipe import RemoveChannelsStage, Training, build_recipe

TRAINING = {"epochs": 2, "batch_size": 32, "learning_rate": 0.05}


def recipe(*after, **stage):
    chosen = {"stage": "remove_channels", "target": 0.5, "steps": 2, "training": TRAINING} | stage
    stages = [{"stage": "evaluate"}, chosen, {"stage": "evaluate"}, {"stage": "export", "check_images": 8}, *after]
    return build_recipe({"model": {"name": "tiny_networks:network"}, "data": {"name": "tiny_networks:images"},
                         "stages": stages})  # fmt: skip


def bare(**stage):
    """The stage alone."""
    whole = recipe(**stage)
    return whole.model_copy(update={"stages": whole.stages[1:2]})


def start(folder, chosen):
    context = Context.of(chosen, folder)
    return context, run_recipe(context)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("channels")
    context, record = start(folder, recipe())
    return folder, context, record


def test_every_round_takes_the_same_share_of_what_is_left(finished):
    _, context, record = finished
    first, second = record.results("remove_channels")[0]["removals"]
    assert second["macs_before"] == first["macs_after"]
    # A unit of the body is a ninth of the MACs: the target is met, and not by much more than one channel.
    assert 0.3 < second["macs_after"] / first["macs_before"] <= 0.5
    assert 0.5 < first["macs_after"] / first["macs_before"] <= 0.5**0.5
    assert len(record.results("remove_channels")[0]["history"]) == 2
    assert context.network.stem.out_channels < 8 or context.network.body.out_channels < 16


def test_the_artifact_builds_the_smaller_network_again(finished):
    folder, context, _ = finished
    image = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(load_artifact_network(folder / "weights.safetensors")(image), context.network(image))
    assert api.census(folder).weights == sum(
        parameter.numel() for parameter in context.network.parameters() if parameter.ndim > 1
    )


def test_counts_are_relative_to_the_dense_network(finished):
    _, _, record = finished
    export = record.results("export")[0]
    dense, compressed = (Census.from_dict(export["census"][name]) for name in ("dense", "compressed"))
    assert compressed.macs == dense.macs
    assert compressed.sparse_macs == record.results("remove_channels")[0]["removals"][1]["macs_after"]


def test_a_run_that_stopped_between_rounds_goes_on_and_ends_with_the_same_weights(finished, tmp_path, monkeypatch):
    _, whole, _ = finished
    trainings = []
    train = remove_channels.train_network

    def once(*arguments, **options):
        if trainings:
            raise KeyboardInterrupt
        trainings.append(train(*arguments, **options))
        return trainings[0]

    monkeypatch.setattr(remove_channels, "train_network", once)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, recipe())
    monkeypatch.undo()
    context, _ = start(tmp_path, recipe())
    state, expected = context.network.state_dict(), whole.network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_a_finished_stage_is_restored_with_its_shapes(finished, tmp_path):
    folder, whole, _ = finished
    longer = recipe({"stage": "evaluate"})
    context, record = start(folder, longer)
    assert record.stages[1].key == load_record(folder).stages[1].key
    assert context.network.body.weight.shape == whole.network.body.weight.shape
    assert record.results("evaluate")[-1] == record.results("evaluate")[-2]


def test_zeros_in_what_is_left(tmp_path):
    stages = [
        {"stage": "remove_channels", "target": 0.4, "training": {"epochs": 0}},
        {"stage": "sparsify", "pattern": "unstructured", "sparsity": 0.3, "training": {"epochs": 0}},
        {"stage": "export", "check_images": 8},
    ]
    named = {"model": {"name": "tiny_networks:network"}, "data": {"name": "tiny_networks:images"}}
    chosen = build_recipe(named | {"stages": stages})
    _, record = start(tmp_path, chosen)
    export = record.results("export")[0]["census"]["compressed"]["totals"]
    assert export["sparsity"] > 0.4
    again = load_artifact_network(tmp_path / "weights.safetensors")
    assert any((parameter == 0).any() for parameter in again.parameters())


@pytest.mark.parametrize("chosen", [{"criterion": "lasso", "solver": "ista", "positions": 3},
                                    {"criterion": "feature_maps"}])  # fmt: skip
def test_readers_are_fitted_before_the_training(tmp_path, chosen):
    stage = {"steps": 1, "statistics_images": 32, "training": {"epochs": 0}} | chosen
    context, record = start(tmp_path / "fitted", bare(**stage))
    unfitted, _ = start(tmp_path / "unfitted", bare(**stage, refit=False))
    (removal,) = record.results("remove_channels")[0]["removals"]
    assert removal["criterion"] == chosen["criterion"]
    assert not torch.equal(context.network.point.weight, unfitted.network.point.weight)


def test_a_run_killed_after_the_choice_goes_on_with_the_fitted_weights(tmp_path, monkeypatch):
    chosen = {"criterion": "lasso", "statistics_images": 32}
    whole, _ = start(tmp_path / "whole", bare(**chosen))

    def killed(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(remove_channels, "train_network", killed)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "killed", bare(**chosen))
    monkeypatch.undo()
    # What was chosen is read, not chosen again.
    choices = []
    choose = remove_channels.choose_channels
    monkeypatch.setattr(remove_channels, "choose_channels", lambda *given: choices.append(given) or choose(*given))
    context, _ = start(tmp_path / "killed", bare(**chosen))
    assert len(choices) == 1
    state, expected = context.network.state_dict(), whole.network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_a_dry_run_plans_once_and_says_how_channels_will_be_chosen(tmp_path, monkeypatch):
    previews = []
    preview = check.preview_of
    monkeypatch.setattr(check, "preview_of", lambda *given: previews.append(given) or preview(*given))
    text = describe(Context.of(recipe(criterion="lasso", solver="ista"), tmp_path))
    assert len(previews) == 1
    assert "lasso by ista chooses as many of 512 images, 10 positions of each; their readers are fitted" in text


@pytest.mark.parametrize(("given", "reason"), [
    ({"criterion": "lasso", "scope": "global"}, "'scope' scores filters; criterion lasso looks at what is read"),
    ({"criterion": "feature_maps", "leader": True}, "'leader' scores filters"),
    ({"refit": False}, "'refit' goes with criterion lasso or feature_maps, not with l2"),
    ({"solver": "ista", "criterion": "l1"}, "'solver' goes with criterion lasso"),
])  # fmt: skip
def test_keys_that_mean_nothing_together_are_refused(given, reason):
    with pytest.raises(RecipeError, match=reason):
        recipe(**given)


def test_a_target_out_of_reach_is_said_before_anything_is_trained(tmp_path):
    with pytest.raises(SparsityError, match="cannot be removed"):
        start(tmp_path, recipe(target=0.99))
    assert not (tmp_path / "stages").exists()


@pytest.mark.parametrize(("epochs", "steps", "shares"), [(10, 3, [3, 3, 4]), (2, 4, [0, 1, 0, 1]), (0, 2, [0, 0])])
def test_epochs_are_shared_out(epochs, steps, shares):
    stage = RemoveChannelsStage(steps=steps, training=Training(epochs=epochs))
    assert [epochs_of(stage, index) for index in range(steps)] == shares


def test_a_file_says_what_stays_of_what_every_convolution_reads(tmp_path):
    """PocketFlow's list: the stem reads the image, the body what the stem gives, the 1x1 layer what the body gives."""
    file = tmp_path / "ratio.list"
    file.write_text("1.0, 0.5, 0.25  # stem, body, point\n")
    chosen = bare(ratios_file=str(file), base="channels", steps=1, training={"epochs": 0})
    context, _ = start(tmp_path / "run", chosen)
    network = context.network
    assert (network.stem.out_channels, network.body.out_channels, network.point.out_channels) == (4, 4, 18)
    file.write_text("1.0, 0.5\n")
    with pytest.raises(SparsityError, match="has 2 levels for 3 layers"):
        start(tmp_path / "short", chosen)
    file.write_text("stem: 0.5\nbodi: 0.5\n")
    with pytest.raises(SparsityError, match=r"Did you mean 'body'\?"):
        start(tmp_path / "typo", chosen)


def test_a_mapping_of_shares_says_how_much_goes(tmp_path):
    file = tmp_path / "levels.yaml"
    file.write_text("body: 0.25\n")
    context, _ = start(tmp_path / "run", bare(ratios_file=str(file), base="channels", steps=1, training={"epochs": 0}))
    assert (context.network.stem.out_channels, context.network.body.out_channels) == (6, 16)
