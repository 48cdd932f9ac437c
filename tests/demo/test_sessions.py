"""Visitors come, stay idle, leave, and leave nothing behind."""

import os
import time

import pytest

from tracking_elysium.demo.sessions import AWAY_S, Sessions


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sessions(tmp_path, clock):
    return Sessions(tmp_path, keep_seconds=600, clock=clock)


def test_each_visitor_has_a_room(sessions):
    ann, bob = sessions.of("ann"), sessions.of("bob")
    assert ann is sessions.of("ann") and ann.folder != bob.folder and ann.folder.is_dir()


def test_leaving_removes_the_files(sessions):
    ann = sessions.of("ann")
    (ann.folder / "video.mp4").write_bytes(b"x")
    sessions.leave("ann")
    assert not ann.folder.exists() and len(sessions) == 0
    sessions.leave("ann")  # twice is fine
    assert sessions.of("ann") is not ann


def test_the_idle_are_swept_out(sessions, clock):
    ann, bob = sessions.of("ann"), sessions.of("bob")
    clock.now += 500
    sessions.of("bob")
    clock.now += 200
    sessions.sweep()
    assert not ann.folder.exists() and bob.folder.exists() and len(sessions) == 1


def test_a_running_job_is_not_swept_but_stopped_when_its_visitor_leaves(sessions, clock):
    ann = sessions.of("ann")
    with ann.alone():
        clock.now += 1000
        sessions.sweep()
        assert ann.folder.exists()
        sessions.leave("ann")
        assert ann.stop.is_set() and ann.folder.exists()  # the job still writes there
    assert not ann.folder.exists()


def test_one_step_at_a_time(sessions):
    ann = sessions.of("ann")
    with ann.alone(), pytest.raises(ValueError, match="A job is running"), ann.alone():
        pass
    with ann.alone():
        pass


def test_old_uploads_go_and_new_ones_stay(sessions):
    old, new = sessions.uploads / "a" / "old.mp4", sessions.uploads / "b" / "new.mp4"
    for path in (old, new):
        path.parent.mkdir()
        path.write_bytes(b"x")
    past = time.time() - 3600
    for path in (old, old.parent):
        os.utime(path, (past, past))
    sessions.sweep()
    assert not old.exists() and new.exists()
    os.utime(old.parent, (past, past))
    sessions.sweep()
    assert not old.parent.exists() and new.exists()


def test_an_upload_goes_with_the_last_who_has_it(sessions):
    upload = sessions.uploads / "a" / "clip.mp4"
    upload.parent.mkdir()
    upload.write_bytes(b"x")
    for name in ("ann", "bob"):  # equal files are stored once
        sessions.replace_upload(sessions.of(name), upload)
    sessions.replace_upload(sessions.of("ann"), upload)  # once more
    sessions.leave("ann")
    assert upload.exists()
    sessions.replace_upload(sessions.of("bob"), None)
    assert not upload.parent.exists() and sessions.uploads.exists()


def test_visitors_of_long_standing_are_not_swept_like_uploads(sessions):
    ann = sessions.of("ann")
    past = time.time() - 3600
    (ann.folder / "video.mp4").write_bytes(b"x")
    for path in (ann.folder / "video.mp4", ann.folder, ann.folder.parent):
        os.utime(path, (past, past))
    sessions.sweep()
    assert (ann.folder / "video.mp4").exists()


def test_another_video_gets_another_folder(sessions):
    ann = sessions.of("ann")
    before = ann.folder
    ann.clear()
    assert ann.folder != before and ann.folder.is_dir() and not before.exists()


def test_a_lost_connection_is_waited_for(sessions, clock):
    ann, bob = sessions.of("ann"), sessions.of("bob")
    for name in ("ann", "bob", "nobody"):
        sessions.lose(name)
    assert len(sessions) == 2
    clock.now += AWAY_S - 1
    sessions.of("bob")  # it was broken for a moment
    with ann.alone():  # a job that nobody waits for any more
        clock.now += 2
        sessions.sweep()
        assert ann.stop.is_set() and bob.folder.exists() and not bob.stop.is_set()
    assert not ann.folder.exists() and len(sessions) == 1


def test_a_job_whose_turn_comes_after_the_page_was_closed_does_not_keep_the_files(sessions, clock):
    ann = sessions.of("ann")
    (ann.folder / "video.mp4").write_bytes(b"x")
    sessions.lose("ann")
    clock.now += AWAY_S / 2
    assert sessions.of("ann", is_visit=False) is ann
    clock.now += AWAY_S / 2 + 1
    sessions.sweep()
    assert not ann.folder.exists() and len(sessions) == 0
    with pytest.raises(ValueError, match="no video yet"):
        sessions.of("ann", is_visit=False)
    assert list(sessions.folders.iterdir()) == []


def test_closing_ends_all_visits(sessions):
    folders = [sessions.of(name).folder for name in "abc"]
    sessions.close()
    assert not any(folder.exists() for folder in folders)
