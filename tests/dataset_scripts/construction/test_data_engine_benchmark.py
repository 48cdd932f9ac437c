"""The benchmark of the pipeline: what counts as good, what filters are credited with, how a gate is chosen."""

import json

import numpy as np
import pytest

from benchmarks import data_engine
from benchmarks.data_engine_judge import DEFAULT, Filters, choose_gate, filter_table, judge, tally
from benchmarks.data_engine_set import OracleGrounder, PlantedTrackers, draw_set, read_truth
from dataset_scripts.construction.rows import Trajectory, write_trajectories
from processing_elysium.boxes import iou
from processing_elysium.frames import open_video


def row(good, innovation=1.0, overlap=0.9, kind="none", video="v", grounding=0.9, tracking=0.9):
    return {"good": good, "innovation": innovation, "overlap": overlap, "kind": kind, "video": video,
            "grounding": grounding, "tracking": tracking, "phrase": "a ring"}  # fmt: skip


def test_filters_are_credited_with_what_they_drop():
    rows = [row(True), row(True, innovation=31), row(False, overlap=0.2), row(False, tracking=0.8), row(False)]
    table = filter_table(rows, DEFAULT)
    assert table["all filters"] == {"kept": 2, "good": 2, "faults": 3, "precision": 0.5, "good kept": 0.5,
                                    "faults dropped": pytest.approx(2 / 3)}  # fmt: skip
    assert table["without drift"]["good kept"] == 1 and table["without consistency"]["kept"] == 3
    assert table["drift alone"]["kept"] == 4 and table["no filter"]["kept"] == 5
    assert tally([], Filters())["precision"] is None


def test_the_gate_is_chosen_on_one_half_of_the_videos():
    rows = [row(True, 22.0, video=f"g{n}") for n in range(40)]
    rows += [row(False, 35.0, video=f"j{n}", kind="jump") for n in range(40)]
    rows += [row(False, 1.0, video=f"d{n}", kind="drift") for n in range(40)]  # no leap: says nothing of a gate
    one = choose_gate(rows)
    assert one["chosen"] == 30 and one["reporting half"][30]["good kept"] == one["choosing half"][30]["good kept"] == 1
    sizes = [sum(one[half][30][name] for name in ("good", "faults")) for half in ("choosing half", "reporting half")]
    assert sum(sizes) == 80 and min(sizes) > 20


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    draw_set(folder, 10, seed=1, size=96)
    return folder


def test_planned_faults_happen_and_the_truth_is_judged_good(drawn, tmp_path):
    truth = read_truth(drawn)
    assert [line.get("broken") for line in truth[10:]] == ["cut_short"] and len(truth[0]["tracks"]) >= 1
    grounder, kinds, rows = OracleGrounder(str(drawn)), [], []
    for line in truth[:10]:
        with open_video(drawn / line["video"]) as video:
            frames = video.read(range(len(line["frames"])))
        for which, track in enumerate(line["tracks"]):
            if any(box is None for box in track):
                continue
            (phrase,) = [text for text, numbers in line["phrases"].items() if numbers == [which]]
            found, none = grounder.ground([frames[0]] * 2, [f"the {phrase}", "a horse"])
            assert iou(found.boxes[0], np.array(track[0])) > 0.6 and not len(none.boxes)
            tracker = PlantedTrackers(str(drawn)).new()
            tracker.init(frames[0], found.boxes[0])
            boxes = np.stack([found.boxes[0], *(tracker.update(frame)[0] for frame in frames[1:])])
            kinds.append(
                (
                    line["faults"][which]["kind"],
                    float(iou(boxes, np.array(track))[: line["faults"][which]["start"]].min()),
                )
            )
            rows.append(trajectory(line["id"], f"the {phrase}", boxes))
    write_trajectories(tmp_path / "shard-00000.parquet", rows)
    judged = judge(drawn, tmp_path)
    assert len(judged) == len(kinds) > 5
    for one, (kind, before) in zip(judged, kinds, strict=True):
        assert one["kind"] == kind and before > 0.5 and (one["good"] or kind != "none")
    assert {kind for kind, _ in kinds} >= {"none", "stays"} and not all(one["good"] for one in judged)
    json.dumps(judged)


def trajectory(video, phrase, boxes):
    measured = {"grounding_scores": [0.9] * 3, "min_tracking_score": 0.95, "max_innovation": 1.0, "iou_middle": 0.8,
                "iou_last": 0.8}  # fmt: skip
    count = len(boxes)
    return Trajectory(
        id=f"{video}#{phrase}", video_id=video, source="s", video="v.mp4", width=96, height=96, phrase=phrase,
        frame_indices=list(range(count)), timestamps=list(range(count)), boxes=boxes,
        presence=[True] * count, scores=[1.0] * count, provenance={"measured": measured},
    )  # fmt: skip


def test_the_memory_run_goes_through_every_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(data_engine, "TINY", (30,))
    (found,) = data_engine.memory(tmp_path)
    assert found["kept"] == found["videos"] == 30 and len(found["parent_and_worker_mib"]) == 30
    assert all(size > 10 for sizes in found["parent_and_worker_mib"] for size in sizes)
