"""Runs: what is written, what a restart skips, sharing out, and which arguments are refused."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from evaluate_metrics.baselines.track import KeepFirst, RoundingOracle, Track
from evaluate_metrics.readers.tasks import load_items
from evaluate_metrics.runners import command
from evaluate_metrics.runners.model import ModelTracker, answer_items
from evaluate_metrics.runners.official import import_official
from evaluate_metrics.runners.reporting import write_report
from evaluate_metrics.runners.scoring import score_task
from evaluate_metrics.runners.store import read_track, read_truth
from evaluate_metrics.runners.work import Share, blocks, run_blocks
from evaluate_metrics.video_reg import captions

from . import miniatures
from .miniature_runs import ListPipe, Pipe, run
from .miniatures import BOXES, MAKERS


def tree(folder):
    """Bytes of everything but what says where a run ran."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "environment.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "task", ["lasot", "lasot_ext", "otb100", "got10k", "tnl2k", "otb_lang", "elysiumtrack", "realdata"]
)
def test_every_tracking_benchmark_runs(task, tmp_path):
    (tmp_path / "data").mkdir()
    MAKERS[task](tmp_path / "data")
    run(task, tmp_path / "data", tmp_path / "out", "--trackers", "rounding_oracle", "--ask", "sot")
    write_report(tmp_path / "out", tmp_path / "report")
    ((_, data),) = json.loads((tmp_path / "report" / "report.json").read_text()).items()
    (one,) = data["trackers"]
    assert one["missing"] == [] and one["problems"] == [] and one["scores"]["auc"] > 0.5


def test_two_runs_are_equal_byte_for_byte(lasot, tmp_path):
    trees = []
    for name in ("a", "b"):
        run("lasot", lasot, tmp_path / name, "--trackers", "keep_first", "kcf")
        write_report(tmp_path / name, tmp_path / name / "report")
        trees.append({key: value for key, value in tree(tmp_path / name).items() if "report" not in key})
        page = (tmp_path / name / "report" / "report.json").read_bytes()
        trees[-1]["report"] = page
    assert trees[0] == trees[1]


def test_restart_skips_what_is_there(lasot, tmp_path):
    items = load_items("lasot", "sot", "test", lasot)

    class Killed(KeepFirst):
        seen = []

        def track(self, sequence, ask):
            self.seen.append(sequence.name)
            if len(self.seen) == 2:
                raise KeyboardInterrupt
            return super().track(sequence, ask)

    with pytest.raises(KeyboardInterrupt):
        run_blocks(items, "sot", tmp_path / "r", Share(), tracker=Killed())
    assert sorted(path.name for path in (tmp_path / "r").glob("*.txt")) == ["cat-1.txt"]
    tracker = Killed()
    assert run_blocks(items, "sot", tmp_path / "r", Share(), tracker=tracker) == 1
    assert tracker.seen == ["cat-1", "cat-10", "cat-10"]
    run_blocks(items, "sot", tmp_path / "whole", Share(), tracker=KeepFirst())
    assert tree(tmp_path / "r") == tree(tmp_path / "whole")


def test_shares_are_the_whole(tmp_path):
    miniatures.otb100(tmp_path / "data")
    items = load_items("otb100", "sot", "test", tmp_path / "data")
    for index in range(2):
        assert run_blocks(items, "sot", tmp_path / "two", Share(index, 2), tracker=RoundingOracle()) == (3, 2)[index]
    run_blocks(items, "sot", tmp_path / "one", Share(), tracker=RoundingOracle())
    assert tree(tmp_path / "two") == tree(tmp_path / "one")


@pytest.mark.slow
def test_two_processes_equal_one_and_a_killed_one_goes_on(tmp_path):
    data = tmp_path / "data"
    miniatures.otb100(data)
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
    ]
    launch += ["--dynamo_backend", "no"]
    end = ["-m", "evaluate_metrics.run", "--task", "otb100", "--data", str(data), "--trackers", "csrt", "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for count in ("1", "2"):
        subprocess.run([*launch, "--num_processes", count, *end, str(tmp_path / count)], check=True, env=environment)
    process = subprocess.Popen([sys.executable, *end, str(tmp_path / "killed")], env=environment)
    folder = tmp_path / "killed" / "otb100-test-sot" / "csrt"
    while process.poll() is None and not list(folder.glob("*.txt")):
        time.sleep(0.02)
    process.kill()
    process.wait()
    subprocess.run([sys.executable, *end, str(tmp_path / "killed")], check=True, env=environment)
    assert tree(tmp_path / "1") == tree(tmp_path / "2") == tree(tmp_path / "killed")


def test_the_model_tracks(lasot, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_pipeline", lambda *_: Pipe(silent=[3], filled=[4]))
    run("lasot", lasot, tmp_path / "r", "--model", "made/mine", "--clip-len", "4")
    folder = tmp_path / "r" / "lasot-test-sot"
    assert json.loads((folder / "mine" / "run.json").read_text()) == {
        "tracker": "mine", "model": "made/mine", "options": {"clip_len": 4},
    }  # fmt: skip
    (one,) = score_task(folder, read_truth(folder), json.loads((folder / "task.json").read_text()))
    assert one.counts == {"frames": 12, "without box": 2, "said absent": 0, "unreadable": 2}
    assert np.isnan(read_track(folder / "mine", "cat-1").boxes_xywh_px[3]).all()
    with pytest.raises(SystemExit, match="results of another run .*clip_len"):
        run("lasot", lasot, tmp_path / "r", "--model", "made/mine", "--clip-len", "5")


def test_words_are_asked(lasot, tmp_path):
    pipe = Pipe()
    (item, _) = load_items("lasot", "rsot", "test", lasot)
    track = ModelTracker(pipe, "m").track(item, "rsot")
    assert pipe.asked == [{"expression": "a red cat on a wall"}]
    np.testing.assert_allclose(track.boxes_xywh_px, BOXES)
    ModelTracker(pipe, "m").track(item, "sot")
    assert pipe.asked[-1] == {"box": (4.0, 6.0, 24.0, 22.0)}


@pytest.mark.parametrize(
    ("task", "ask", "scores"),
    [
        ("refcoco", "rec", {"acc_50": 1.0, "mean_iou": 1.0}),
        ("refcocog", "reg", {"exact_match": 1.0}),
        ("msvd_qa", "vqa", {"normalized_match": 1.0, "contained_match": 1.0}),
        ("msrvtt_qa", "vqa", {"normalized_match": 1.0}),
        ("tgif_qa", "vqa", {"normalized_match": 1.0}),
        ("activitynet_qa", "vqa", {"exact_match": 0.0, "contained_match": 0.0}),
        ("elysiumtrack", "video_reg", {"exact_match": 1.0}),
        ("realdata", "rec", {"acc_50": 1.0}),
    ],
)
def test_answers(task, ask, scores, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    MAKERS[task](tmp_path / "data")
    monkeypatch.setattr(command, "_pipeline", lambda *_: ListPipe())
    monkeypatch.setattr(captions, "java_is_usable", lambda: False)  # it takes seconds to start
    run(task, tmp_path / "data", tmp_path / "r", "--ask", ask)
    (folder,) = (tmp_path / "r").iterdir()
    (one,) = score_task(folder, read_truth(folder), json.loads((folder / "task.json").read_text()))
    assert {key: one.scores[key] for key in scores} == scores
    # Without its answers everything is wrong, and nothing leaves the denominator.
    (folder / "elysium" / "block-00000.jsonl").unlink()
    (one,) = score_task(folder, read_truth(folder), json.loads((folder / "task.json").read_text()))
    assert set(one.scores.values()) == {0.0} and len(one.missing) == one.expected
    assert one.counts["without answer"] == one.counts["items"] == one.expected


def test_an_unreadable_box_is_wrong_and_counted(tmp_path):
    miniatures.refcoco(tmp_path)
    items = load_items("refcoco", "rec", "val", tmp_path)
    assert [row["box"] for row in answer_items(ListPipe(silent=[0]), items, "rec")] == [None, None]
    assert [row["box"] for row in answer_items(ListPipe(filled=[0]), items, "rec")] == [None, None]


def test_blocks_of_a_stopped_run_are_redone(tmp_path):
    miniatures.refcoco(tmp_path)
    items = load_items("refcoco", "rec", "val", tmp_path) * 20
    assert [len(block) for _, block in blocks(items, "rec")] == [32, 8]
    answer = lambda block, ask: [{"name": item.name, "box": None} for item in block]  # noqa: E731
    assert run_blocks(items[:5], "rec", tmp_path / "r", Share(), answer=answer) == 1
    assert run_blocks(items, "rec", tmp_path / "r", Share(), answer=answer) == 2  # the first was shorter
    assert run_blocks(items, "rec", tmp_path / "r", Share(), answer=answer) == 0


@pytest.mark.parametrize("names", [("dog", "jogging-1", "JOGGING.2"), ("DOG", "Jogging_1", "jogging-2")])
def test_names_that_trackers_write_in_their_own_way(tmp_path, names):
    miniatures.otb100(tmp_path / "data")
    for name in names:
        miniatures.lines(tmp_path / "raw/T" / f"{name}.txt", BOXES)
    items = load_items("otb100", "sot", "test", tmp_path / "data")
    assert import_official(tmp_path / "raw", items, tmp_path / "r") == {"T": ["David", "Tiger1"]}
    assert len(read_track(tmp_path / "r" / "T", "Jogging_1").boxes_xywh_px) == 6


def test_a_raw_folder_without_any_sequence(lasot, tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(SystemExit, match="no file below it is named after a sequence"):
        run("lasot", lasot, tmp_path / "r", "--official-raw", str(tmp_path / "raw"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--trackers", "nobody"], "has 'nobody'; the names are keep_first"),
        (["--trackers", "sam2_video"], "needs a checkpoint"),
        (["--trackers", "vit"], "needs 1 ONNX files"),
        (["--trackers", "csrt", "--ask", "rsot"], "'csrt' is asked by a box"),
        (["--clip-len", "1"], "`overlap`=1 must be"),
        (["--limit", "0"], "`--limit`=0 must be at least 1"),
        (["--sequences", "dog-1"], "`--sequences` has 'dog-1'"),
        (["--official-raw", "nowhere"], "`--official-raw`=nowhere is no folder"),
        (["--name", "kcf"], "is the name of a baseline"),
    ],
)
def test_bad_arguments(lasot, tmp_path, more, message):
    with pytest.raises(SystemExit, match=message):
        run("lasot", lasot, tmp_path / "r", *more)


def test_a_quick_look_leaves_the_truth(lasot, tmp_path):
    run("lasot", lasot, tmp_path / "r", "--trackers", "keep_first")
    run("lasot", lasot, tmp_path / "r", "--trackers", "rounding_oracle", "--limit", "1")
    truths = read_truth(tmp_path / "r" / "lasot-test-sot")
    assert [truth.name for truth in truths] == ["cat-1", "cat-10"]
    np.testing.assert_allclose(truths[0].boxes_xywh_px, BOXES)
    assert truths[0].absent.tolist() == [False, False, True, False, False, True]


def test_a_wrong_number_of_boxes_is_an_error(lasot, tmp_path):
    class Short(KeepFirst):
        def track(self, sequence, ask):
            return Track(sequence.boxes_xywh_px[:2], np.zeros(2))

    with pytest.raises(ValueError, match="'cat-1': keep_first gave 2 boxes for 6 frames"):
        run_blocks(load_items("lasot", "sot", "test", lasot), "sot", tmp_path, Share(), tracker=Short())
