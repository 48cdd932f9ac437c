"""The demo's parts around an oracle: real videos, real files, no browser, no Gradio."""

from __future__ import annotations

from functools import partial

import pytest

from tests.tracking.media import write_mp4
from tests.tracking.oracle import Oracle, OracleAnswerer, tiny_pipeline
from tracking_elysium.demo.engine import Engine
from tracking_elysium.demo.handlers import Handlers
from tracking_elysium.demo.limits import Limits
from tracking_elysium.demo.sessions import Sessions

NUM_FRAMES, WIDTH, HEIGHT = 12, 64, 48


class OneModel:
    """Stands for `Models`: one pipeline that is there already."""

    def __init__(self, pipe):
        self.names, self._pipe = ["oracle"], pipe

    def pipeline(self, name=None):
        assert name in (None, "oracle")
        return self._pipe


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory):
    return write_mp4(tmp_path_factory.mktemp("clips") / "clip.mp4", NUM_FRAMES, WIDTH, HEIGHT)


@pytest.fixture
def oracle():
    return Oracle()


@pytest.fixture(scope="session")
def tiny_pipe():
    return tiny_pipeline()


@pytest.fixture
def engine(tiny_pipe, oracle, monkeypatch):
    monkeypatch.setattr(tiny_pipe, "answerer", partial(OracleAnswerer, oracle))
    return Engine(OneModel(tiny_pipe))


@pytest.fixture
def limits():
    return Limits(objects=3, frames=100)


@pytest.fixture
def handlers(engine, limits, tmp_path, clip_file):
    return Handlers(engine, Sessions(tmp_path / "demo", keep_seconds=600), limits, sample=clip_file)


@pytest.fixture
def uploaded(handlers, clip_file):
    """A copy of the clip, as Gradio puts it into the folder of uploads."""

    def put(name="clip.mp4", content=None):
        path = handlers.sessions.uploads / "0a1b" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(clip_file.read_bytes() if content is None else content)
        return str(path)

    return put
