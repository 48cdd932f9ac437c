from functools import partial

import pytest

from .media import bad_files
from .oracle import Oracle, OracleAnswerer, tiny_pipeline


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Good and bad video files by name."""
    return bad_files(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="session")
def pipe():
    """The pipeline around a tiny random model."""
    return tiny_pipeline()


@pytest.fixture
def oracle(pipe, monkeypatch):
    """The pipeline answered by the oracle instead of the model."""
    oracle = Oracle()
    monkeypatch.setattr(pipe, "answerer", partial(OracleAnswerer, oracle))
    return oracle
