"""The places of the network that these tests share, found once: every export takes seconds."""

import pytest

from rounded_networks import everything
from secateur.quantization.training.places import Map, map_of


@pytest.fixture(scope="session")
def places() -> Map:
    """Of `everything()`; masks do not change them."""
    return map_of(everything(), (3, 12, 12))
