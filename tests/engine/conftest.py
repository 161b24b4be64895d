"""What all tests of the engine share: a cache of kernels of their own, empty when the tests begin."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Kernels and timings of earlier runs cannot help a test to pass, and none stay in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECATEUR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
