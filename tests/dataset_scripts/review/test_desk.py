"""What is shown and done, without a page; and the page, where gradio is installed."""

import numpy as np
import pytest

from dataset_scripts.review.__main__ import main
from dataset_scripts.review.clip import draw_clip, draw_way, frames_of
from dataset_scripts.review.decisions import read_log
from dataset_scripts.review.desk import KEYS, ReviewDesk
from processing_elysium.frames import open_video

from ..tiny_build import NUM_FRAMES, SIZE, write_build

YELLOW = np.array([255, 214, 10])


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    return folder, write_build(folder, 2)


def test_the_clip_shows_the_box_where_it_is(build, tmp_path):
    folder, rows = build
    row = rows[0]
    file = draw_clip(row, folder, tmp_path / "clip.mp4")
    with open_video(str(file)) as video:
        assert (video.num_frames, video.width, video.height) == (NUM_FRAMES, SIZE, SIZE)
        assert video.fps == pytest.approx(row.fps, rel=1e-3)
        drawn = np.stack(list(video)).astype(int)
    plain = np.stack(frames_of(row, folder, list(range(NUM_FRAMES)))).astype(int)
    for index in range(NUM_FRAMES):
        y, x = np.nonzero(np.abs(drawn[index] - plain[index]).sum(2) > 110)  # twice what compression changes
        box = np.clip(row.boxes[index], 0, 1) * SIZE
        np.testing.assert_allclose([x.min(), y.min(), x.max() + 1, y.max() + 1], box, atol=4)
    kept = file.stat().st_mtime_ns
    assert draw_clip(row, folder, file).stat().st_mtime_ns == kept


def test_the_way_ends_at_the_last_center(build):
    folder, rows = build
    row = rows[0]
    x, y = (row.boxes[-1][:2] + row.boxes[-1][2:]) / 2 * SIZE
    picture = np.asarray(draw_way(row, folder)).astype(int)
    assert np.abs(picture[int(y), int(x)] - YELLOW).sum() < 30


def test_the_desk_shows_decides_and_goes_back(build, tmp_path):
    folder, rows = build
    desk = ReviewDesk(rows, folder, tmp_path / "log.jsonl", tmp_path / "clips")
    assert desk.begin(" ")[1].message and desk.act(None, "accept", "")[1].message
    session, first = desk.begin("ann")
    assert first.clip and first.phrase == session.current.phrase and first.phrase in first.title
    session, second = desk.act(session, "accept", first.phrase)
    assert second.title != first.title and "1 of" in second.summary
    session, back = desk.act(session, "back", "")
    assert "you said: **accept**" in back.title
    session, wrong = desk.act(session, "edit", back.phrase)
    assert "Not saved" in wrong.message and len(read_log(tmp_path / "log.jsonl")) == 1
    shown = wrong
    for _ in rows:
        session, shown = desk.act(session, "reject", shown.phrase)
    assert "All decided" in shown.title and shown.clip is None
    assert set(KEYS.values()) == {"accept", "reject", "edit", "back"}


def test_a_video_that_is_gone_can_be_rejected(build, tmp_path):
    _, rows = build
    desk = ReviewDesk(rows[:1], tmp_path, tmp_path / "log.jsonl", tmp_path / "clips")
    session, shown = desk.begin("ann")
    assert "cannot be shown" in shown.message and shown.clip is None
    session, shown = desk.act(session, "reject", "")
    assert "All decided" in shown.title


def test_the_command(build, tmp_path, capsys):
    folder, rows = build
    log = tmp_path / "log.jsonl"
    desk = ReviewDesk(rows, folder, log, tmp_path / "clips")
    for name in ("ann", "ben"):
        desk.act(desk.begin(name)[0], "accept", "")
    assert main([str(folder), "--log", str(log), "--agreement"]) == 0
    assert "Fleiss, 1 items" in capsys.readouterr().out
    assert main([str(folder), "--log", str(log), "--split", "validation"]) == 2
    assert "no row of the split 'validation'" in capsys.readouterr().err
    assert main([str(tmp_path), "--log", str(log)]) == 2


def test_the_page_works_over_http(build, tmp_path):
    pytest.importorskip("gradio", minversion="6.14")
    client_of = pytest.importorskip("gradio_client").Client

    from dataset_scripts.review.page import LAUNCH, build_page

    folder, rows = build
    log = tmp_path / "log.jsonl"
    page = build_page(ReviewDesk(rows, folder, log, tmp_path / "clips"), "ann")
    _, address, _ = page.launch(
        prevent_thread_lock=True, quiet=True, server_port=None, allowed_paths=[str(tmp_path)], **LAUNCH
    )
    try:
        client = client_of(address, verbose=False)
        clip, _, title, phrase, *_ = client.predict("ann", api_name="/begin")
        assert clip is not None and any(row.phrase in title for row in rows)
        client.predict("other words", api_name="/edit")
        assert [(d.verdict, d.phrase, d.reviewer) for d in read_log(log)] == [("edit", "other words", "ann")]
    finally:
        page.close()
