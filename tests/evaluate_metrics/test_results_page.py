"""docs/results.md: one section at a time, whatever is there already; IoU by size; what an answer's words are worth."""

import numpy as np
import pytest

from evaluate_metrics.baselines.track import Track
from evaluate_metrics.readers.tasks import TASKS
from evaluate_metrics.runners import command, results_page
from evaluate_metrics.runners.by_size import FEWEST, iou_by_size
from evaluate_metrics.runners.results_page import PARTS, main, with_section
from evaluate_metrics.runners.store import Truth, write_lines, write_track
from evaluate_metrics.video_reg import captions

from . import miniatures
from .miniature_runs import ListPipe


def test_a_section_takes_its_place_and_leaves_the_others():
    page = with_section("", "realdata", "old real")
    page = with_section(page, "synthetic", "drawn")
    assert page.index("drawn") < page.index("old real")  # in the order of the table, not of the runs
    page = with_section(page, "realdata", "new real")
    assert page.count("# Results") == 1 and "drawn" in page and "new real" in page and "old real" not in page
    assert with_section(page, "synthetic", "drawn") == page


def test_the_page_is_made_by_one_command_and_made_again_from_what_is_there(tmp_path, monkeypatch, capsys):
    miniatures.realdata(tmp_path / "data")
    records = tmp_path / "data" / "records.jsonl"
    records.write_text(records.read_text().replace('"description": null', '"description": "the red cat"'))
    monkeypatch.setattr(captions, "java_is_usable", lambda: False)  # it takes seconds to start
    monkeypatch.setattr(command, "_pipeline", lambda *_: ListPipe())
    monkeypatch.setattr(results_page, "OPENCV", ("keep_first", "rounding_oracle"))
    page = tmp_path / "results.md"
    arguments = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--page", str(page)]
    main([*arguments, "--only", "realdata"])
    first = page.read_text()
    for words in (
        "### SOT",
        "### RSOT",
        "### VIDEO-REG",
        "### REC",
        "rounding_oracle",
        "rec_per_frame (`elysium`)",
        "AUC by group",
    ):
        assert words in first
    assert (tmp_path / "results" / "realdata-val-sot.png").stat().st_size > 1000
    assert f"(results/{PARTS['realdata'].folder('rsot')}.png)" in first
    main([*arguments, "--only", "realdata"])
    assert page.read_text() == first
    main(["--out", str(tmp_path / "none"), "--page", str(page), "--only", "realdata"])  # no --data
    assert page.read_text() == first and "stays as it is" in capsys.readouterr().err


def test_every_part_is_a_task_and_split():
    assert all(part.split in TASKS[part.task].splits for part in PARTS.values())


def truth(boxes, absent=None):
    return Truth("a", np.array(boxes, float), None if absent is None else np.array(absent, bool), None, (), (), True)


def test_iou_by_size_by_hand(tmp_path):
    count = FEWEST
    small, large = [[5.0, 5, 10, 10]] * (count + 1), [[5.0, 5, 40, 40]] * count
    said = np.array(small + large)
    said[1 : count + 1, 0] += 5  # half of the box: IoU 1/3
    said[count + 1] = np.nan  # no box: IoU 0
    write_track(tmp_path, "a", Track(said, np.ones(len(said))))
    found = iou_by_size(tmp_path, [truth(small + large)])
    assert [(round(b.side_px), b.frames) for b in found] == [(10, count), (40, count)]
    assert [b.mean_iou for b in found] == pytest.approx([1 / 3, (count - 1) / count])
    # Absent frames are no frames, a sequence without result is all 0, too few frames are no mean.
    (one,) = iou_by_size(tmp_path, [truth(small + large, [0] * (count + 1) + [1] * count)])
    assert one.frames == count
    assert {b.mean_iou for b in iou_by_size(tmp_path / "nothing", [truth(small + large)])} == {0.0}
    assert iou_by_size(tmp_path, [truth(small[:count])]) == []


def test_the_one_right_word_counts(tmp_path):
    write_lines(tmp_path / "m" / "block-00000.jsonl", [
        {"name": "a", "text": "A red circle, left."}, {"name": "b", "text": "red or blue circle"}, {"name": "c"},
    ])  # fmt: skip
    truths = [Truth(name, np.zeros((1, 4)), None, None, ("a red circle",), (), True) for name in ("a", "b", "c")]
    scored = type("Scored", (), {"tracker": "m"})()
    _, row = results_page._word_rows(tmp_path, [scored], truths)
    assert row == ["m", "33.3%", "66.7%", "33.3%"]
