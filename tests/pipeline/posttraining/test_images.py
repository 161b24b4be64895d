"""Images of the stage: disjoint, of the training split, few enough to judge by."""

import pytest
import torch

import tiny_networks
from secateur import zoo
from secateur.errors import DataError
from secateur.pipeline.posttraining import images as room
from secateur.pipeline.posttraining.images import images_for
from secateur.recipe import PosttrainingStage

PREPROCESSING = tiny_networks.Tiny().preprocessing


@pytest.mark.parametrize(
    ("images", "held_out", "expected"), [(40, 10, (40, 10)), (1024, 256, (77, 19)), (5, 5, (5, 5)), (70, 80, (70, 19))]
)
def test_held_out_images_are_others_and_at_most_a_fifth_where_there_are_few(images, held_out, expected):
    stage = PosttrainingStage(images=images, held_out=held_out, batch_size=16)
    calibration, batches, judges = images_for(tiny_networks.images(), stage, 0, PREPROCESSING)
    fitted, judged = torch.cat(list(batches())), torch.cat(list(judges()))
    assert (len(fitted), len(judged)) == expected
    assert len(calibration) == len(fitted)
    assert not {image.numpy().tobytes() for image in fitted} & {image.numpy().tobytes() for image in judged}


def test_every_pass_gives_the_same_whether_kept_or_not(monkeypatch):
    stage = PosttrainingStage(images=20, held_out=4, batch_size=8)
    _, kept, _ = images_for(tiny_networks.images(), stage, 3, PREPROCESSING)
    monkeypatch.setattr(room, "KEEP_BYTES", 0)
    _, fresh, _ = images_for(tiny_networks.images(), stage, 3, PREPROCESSING)
    passes = [torch.cat(list(source())) for source in (kept, kept, fresh, fresh)]
    assert all(torch.equal(passes[0], other) for other in passes[1:])


def test_one_image_is_too_few():
    whole = tiny_networks.images()
    one = type(whole.train)(whole.train.pixels[:1], whole.train.labels[:1])
    data = zoo.ImageData("one", one, whole.test, whole.classes)
    with pytest.raises(DataError, match="two training images"):
        images_for(data, PosttrainingStage(), 0, PREPROCESSING)


def test_fewer_images_than_asked_for_are_told_with_what_becomes_of_them(capsys):
    stage = PosttrainingStage.model_validate({"images": 80, "held_out": 512})
    calibration, _, _ = images_for(tiny_networks.images(), stage, 0, PREPROCESSING)
    said = capsys.readouterr().err
    assert len(calibration) == 77 and said.count("\n") == 1
    assert "has 96 training images; 77 calibrate and 19 judge, of 80 and 512 asked for" in said
