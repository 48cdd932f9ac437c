import pytest

import tracking_elysium.pipeline_video_tracking as pipeline_module

from .media import bad_files
from .oracle import Oracle, tiny_pipeline


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

    class Answerer(pipeline_module.ClipAnswerer):
        def __init__(self, *args, compile=False, **options):
            super().__init__(*args, **options)

        def __call__(self, requests):
            return oracle(requests)

    monkeypatch.setattr(pipeline_module, "ClipAnswerer", Answerer)
    monkeypatch.setattr(pipeline_module, "DraftedAnswerer", Answerer)
    return oracle
