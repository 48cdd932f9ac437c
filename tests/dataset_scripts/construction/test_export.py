"""What export writes is read back by the readers that exist: same boxes, flags and words."""

import json

import numpy as np
import pytest

from dataset_scripts.adapters import Reading, Skipped, open_corpus
from dataset_scripts.construction.export import FORMATS, export, main
from dataset_scripts.construction.rows import write_trajectories
from dataset_scripts.construction.stats import main as stats
from dataset_scripts.streams import TarStream
from evaluate_metrics.readers import elysium_track, lasot

from ..tiny_build import NUM_FRAMES, SIZE, write_build


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Two videos; the first object leaves in the third frame."""
    folder = tmp_path_factory.mktemp("build")
    rows = write_build(folder, 2)
    rows[0].boxes[2], rows[0].presence[2] = np.nan, False
    half = sum(row.video_id == "v0" for row in rows)
    write_trajectories(folder / "shards" / "00000.parquet", rows[:half])
    return folder, rows


@pytest.fixture(scope="module")
def written(build, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    for kind in FORMATS:
        export(kind, build[0], build[0], out / kind)
    return out


def true_boxes_px(row):
    boxes = np.where(row.presence[:, None], row.boxes, np.nan) * SIZE
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def test_the_authors_lines_are_read_by_evaluation_and_training(build, written):
    rows = [row for row in build[1] if row.split == "train"]
    sequences = elysium_track.read(written / "elysium", "train")
    for sequence, row in zip(sequences, rows, strict=True):
        np.testing.assert_allclose(sequence.boxes_xywh_px, true_boxes_px(row), atol=1e-3)
        assert sequence.words == row.phrase and len(sequence.frames) == NUM_FRAMES
    records = list(
        open_corpus("elysiumtrack-1m", str(written / "elysium" / "train.jsonl"), Reading(skipped=Skipped()))
    )
    assert [record.objects[0].expression for record in records] == [row.phrase for row in rows]
    for record, row in zip(records, rows, strict=True):
        there = record.objects[0].known
        assert there[row.presence].any()
        np.testing.assert_allclose(record.objects[0].boxes[there], row.boxes[there], atol=0.05)


def test_lasot_is_read_by_evaluation(build, written):
    for split in ("train", "test"):
        rows = [row for row in build[1] if row.split == split]
        found = {sequence.words + str(sequence.boxes_xywh_px[0].round(1)): sequence
                 for sequence in lasot.read(written / "lasot", split)}  # fmt: skip
        assert len(found) == len(rows)
        for row in rows:
            sequence = found[row.phrase + str(true_boxes_px(row)[0].round(3).round(1))]
            np.testing.assert_array_equal(sequence.absent, ~row.presence)
            np.testing.assert_allclose(
                sequence.boxes_xywh_px[row.presence], true_boxes_px(row)[row.presence], atol=1e-3
            )


@pytest.mark.parametrize("kind", ["mot", "coco"])
def test_mot_and_coco_are_read_as_my_boxes(build, written, kind):
    records = list(open_corpus("my-boxes", str(written / kind), Reading(skipped=Skipped())))
    tracks = [track for record in records for track in record.objects]
    assert len(tracks) == len(build[1])
    for row in build[1]:
        near = min(np.abs(np.clip(track.boxes[0], 0, 1) - np.clip(row.boxes[0], 0, 1)).max() for track in tracks)
        assert near < 0.01


def test_frames_in_tars_are_what_training_streams(build, written):
    clips = []
    for split in ("train", "test"):
        stream = TarStream(path=str(written / "webdataset" / f"{split}-*.tar"))
        for entry in stream.entries(0, 0):
            clips.append(entry.clip(1, np.random.default_rng(0)))
    assert len(clips) == 2 * NUM_FRAMES and clips[0].decode()[0].shape == (SIZE, SIZE, 3)


def test_a_folder_that_is_there_stays(build, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert main(["mot", str(build[0]), str(tmp_path / "out")]) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert main(["mot", str(build[0]), str(tmp_path / "new"), "--videos", str(tmp_path)]) == 2
    assert not (tmp_path / "new").exists() and not (tmp_path / "new.partial").exists()


def test_stats_prints_and_draws(build, tmp_path, capsys):
    line = {"counts": {"phrases": 40, "kept": 12}, "dropped": {"noun_chunks.plural": 20, "drift.jump": 8}}
    (build[0] / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    assert stats([str(build[0]), "--out", str(tmp_path / "look")]) == 0
    text = capsys.readouterr().out
    assert f"| trajectories | {len(build[1])} |" in text and "| noun_chunks.plural | 20 | 20 |" in text
    names = {"numbers.md", "statistics.json", "distributions.png", "funnel.png", "contact_sheet.jpg"}
    assert {file.name for file in (tmp_path / "look").iterdir()} == names
    assert stats([str(build[0]), "--out", str(tmp_path / "look")]) == 2
