import pytest

from .media import bad_files
from .oracle import tiny_pipeline


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Good and bad video files by name."""
    return bad_files(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="session")
def pipe():
    """The pipeline around a tiny random model."""
    return tiny_pipeline()
