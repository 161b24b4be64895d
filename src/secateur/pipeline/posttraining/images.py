"""The images of the stage: some to calibrate, others to decide between results; none of them is for testing."""

from collections.abc import Callable, Iterable

from torch import Tensor

from secateur.errors import DataError
from secateur.pipeline.network import build_images
from secateur.posttraining.calibration import Calibration, choose_images
from secateur.posttraining.thin import GramImages
from secateur.progress import say
from secateur.recipe import Data, PosttrainingStage, QuantizeStage
from secateur.zoo import ImageData, Preprocessing

Batches = Callable[[], Iterable[Tensor]]

# Prepared images up to so many bytes stay in memory; more are decoded anew in each pass.
KEEP_BYTES = 1 << 30


def images_for(
    data: ImageData, stage: PosttrainingStage | QuantizeStage, seed: int, preprocessing: Preprocessing
) -> tuple[Calibration, Batches, Batches]:
    """(calibration images, their batches, batches of held-out images): as many as asked for.

    Where there are fewer images, at most a fifth of them is held out.

    raises    DataError  fewer than two training images
    """
    source = source_of(data, stage)
    wanted, total = stage.images + stage.held_out, len(source.split("train"))
    both, short = choose_images(source, min(wanted, max(total, 1)), seed), total < wanted
    held_out = min(stage.held_out, max(1, len(both) // 5)) if short else stage.held_out
    fitted = min(stage.images, len(both) - held_out)
    if fitted < 1:
        raise DataError(f"{source.name}: needs at least two training images, one to calibrate and one to judge by.")
    if short:
        say(
            f"{source.name}: has {total} training images; {fitted} calibrate and {held_out} judge, "
            f"of {stage.images} and {stage.held_out} asked for."
        )
    calibration = Calibration(both.indices[:fitted], seed, source)
    judges = Calibration(both.indices[fitted : fitted + held_out], seed, source)
    return (
        calibration,
        _kept(calibration, preprocessing, stage.batch_size),
        _kept(judges, preprocessing, stage.batch_size),
    )


def source_of(data: ImageData, stage: PosttrainingStage | QuantizeStage) -> ImageData:
    """The images that calibrate: those of the recipe, or others that the stage names. raises DataError, none to take"""
    source = data if stage.calibration is None else build_images(Data(name=stage.calibration))
    source.split("train")
    return source


def batches_of(
    calibration: Calibration, preprocessing: Preprocessing, stage: PosttrainingStage, whole: Batches
) -> Batches:
    """The calibration images in batches of the size that `reconstruction` asks for.

    whole    the same in batches of the stage, taken where the sizes are equal
    """
    config = stage.reconstruction
    if config is None or config.batch_size == stage.batch_size:
        return whole
    return lambda: calibration.batches(preprocessing, config.batch_size)


def gram_images(
    calibration: Calibration, preprocessing: Preprocessing, stage: PosttrainingStage, whole: Batches, seed: int
) -> GramImages:
    """What Gram matrices are gathered from: the calibration images, and variations of them where these are too few.

    whole    the calibration images in batches of the stage
    """

    def varied(times: int) -> Batches:
        return lambda: calibration.variations(preprocessing, stage.batch_size, times, seed=seed)

    return GramImages(whole, varied, f"crops and mirror images, seed {seed}", len(calibration))


def _kept(calibration: Calibration, preprocessing: Preprocessing, batch_size: int) -> Batches:
    channels, height, width = preprocessing.input_size
    if 4 * channels * height * width * len(calibration) > KEEP_BYTES:
        return lambda: calibration.batches(preprocessing, batch_size)
    batches: list[Tensor] = []

    def all_of_them() -> Iterable[Tensor]:
        if not batches:
            batches.extend(calibration.batches(preprocessing, batch_size))
        return batches

    return all_of_them
