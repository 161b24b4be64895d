"""Which network, and which images."""

from typing import Annotated, Any

from pydantic import Field

from secateur.recipe.schema.base import Fraction, Positive, Section


class Model(Section):
    """Which network, and with which weights."""

    name: str = Field(description="a name that `secateur models` lists, or package.module:callable")
    weights: str | None = Field(default=None, description="'pretrained', a .safetensors or .pth file, or none: random")
    classes: Positive | None = Field(default=None, description="number of classes; by default that of the data set")
    options: dict[str, Any] = Field(default_factory=dict, description="arguments of the model's constructor")


class Data(Section):
    """Which images."""

    name: str = Field(default="digits", description="digits, cifar10, imagefolder:DIR or package.module:callable")
    root: str | None = Field(default=None, description="folder where torchvision keeps its data sets")
    classes_file: str | None = Field(
        default=None, description="text file with one class folder a line: fixes their order"
    )
    holdout: Fraction | None = Field(
        default=None, description="share of a folder without train/ and val/ kept for testing"
    )
    workers: Annotated[int, Field(ge=0, le=64)] = Field(
        default=0, description="loader processes; 0 loads in the main one"
    )
    crop_pct: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(default=None, description="test-time centre crop")
    train_limit: Positive | None = Field(default=None, description="use only so many training images, evenly spread")
    test_limit: Positive | None = Field(default=None, description="use only so many test images, evenly spread")
