"""Nothing but a real video of a size that can be served gets in, whatever its name says."""

import os
import sys
from pathlib import Path

import pytest

from processing_elysium.frames import open_video
from tracking_elysium.demo import uploads as uploads_module
from tracking_elysium.demo.limits import Limits
from tracking_elysium.demo.probe import look_into
from tracking_elysium.demo.uploads import open_clip, probe, take_in

from .conftest import HEIGHT, NUM_FRAMES, WIDTH
from .hostile import harmless_files, hostile_files

LIMITS = Limits(upload_mb=1, seconds=30, frames=100, megapixels=4)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return hostile_files(tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def rooms(tmp_path):
    """The folder of uploads and a visitor's folder."""
    folders = tmp_path / "uploads", tmp_path / "visitor"
    for folder in folders:
        folder.mkdir()
    return folders


def put(uploads: Path, path: Path) -> str:
    target = uploads / path.name
    target.write_bytes(path.read_bytes())
    return str(target)


@pytest.fixture
def probed_here(monkeypatch):
    """Look into files without a process for each; `test_probing_is_a_process_of_its_own` has the real one."""
    monkeypatch.setattr(uploads_module, "probe", lambda path: look_into(str(path)))


def test_hostile_files_are_refused_with_a_sentence(hostile, rooms, probed_here):
    uploads, visitor = rooms
    assert len(hostile) == 20
    got_in = []
    for what, path in hostile.items():
        try:
            own = take_in(put(uploads, path), visitor, uploads, LIMITS)
            open_clip(open_video, own, LIMITS)
            got_in.append(what)
        except ValueError as error:
            assert str(error).endswith(".") and str(visitor) not in str(error), (what, error)
    assert got_in == []
    assert all(path.stat().st_size <= LIMITS.upload_mb * 10**6 for path in visitor.iterdir())


def test_odd_but_harmless_files_are_taken(tmp_path, rooms, probed_here):
    uploads, visitor = rooms
    for what, path in harmless_files(tmp_path).items():
        own = take_in(put(uploads, path), visitor, uploads, LIMITS)
        assert own.parent == visitor and own.name == "video.mp4", what
        clip = open_clip(open_video, own, LIMITS, "mine")
        assert clip.num_frames > 0 and clip.name == "mine"


def test_only_uploads_are_read(rooms, clip_file, tmp_path):
    uploads, visitor = rooms
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(clip_file.read_bytes())
    (uploads / "link.mp4").symlink_to(secret)
    (uploads / "folder.mp4").mkdir()
    others = uploads / "visitors" / "someone" / "video.mp4"
    others.parent.mkdir(parents=True)
    others.write_bytes(clip_file.read_bytes())
    for path in (
        others,
        secret,
        "/etc/passwd",
        f"{uploads}/../secret.mp4",
        uploads / "link.mp4",
        uploads / "folder.mp4",
    ):
        with pytest.raises(ValueError, match="was not uploaded here"):
            take_in(str(path), visitor, uploads, LIMITS)
    for nothing in (None, ""):
        with pytest.raises(ValueError, match="no video yet"):
            take_in(nothing, visitor, uploads, LIMITS)


def test_a_visitor_keeps_the_video_when_the_upload_goes(rooms, clip_file):
    uploads, visitor = rooms
    upload = put(uploads, clip_file)
    own = take_in(upload, visitor, uploads, LIMITS)
    os.unlink(upload)
    clip = open_clip(open_video, own, LIMITS)
    assert (clip.width, clip.height, clip.num_frames, clip.fps) == (WIDTH, HEIGHT, NUM_FRAMES, 10.0)


def test_probing_is_a_process_of_its_own(hostile, clip_file):
    assert probe(clip_file) == {"width": WIDTH, "height": HEIGHT, "frames": NUM_FRAMES, "seconds": 1.2}
    assert "problem" in probe(hostile["playlist that names a local file"])


@pytest.mark.parametrize(
    "code, seconds, word", [("import os; os.abort()", 60, "failed"), ("import time; time.sleep(99)", 0.5, "longer")]
)
def test_a_process_that_dies_or_hangs_found_no_video(monkeypatch, clip_file, code, seconds, word):
    real = uploads_module.subprocess.run
    monkeypatch.setattr(
        uploads_module.subprocess, "run", lambda command, **how: real([sys.executable, "-c", code], **how)
    )
    monkeypatch.setattr(uploads_module, "_PROBE_TIMEOUT_S", seconds)
    assert word in probe(clip_file)["problem"]


@pytest.mark.parametrize("name, value", [("upload_mb", 0), ("seconds", -1), ("frames", 1.5), ("objects", True)])
def test_limits_are_whole_numbers_from_one(name, value):
    with pytest.raises(ValueError, match=f"`{name}`="):
        Limits(**{name: value})
