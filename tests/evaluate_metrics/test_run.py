"""Runs: what is written, what a restart skips, sharing out, and what a report makes of it."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from evaluate_metrics.baselines.track import KeepFirst, RoundingOracle, Track
from evaluate_metrics.readers.tasks import load_items
from evaluate_metrics.runners import command
from evaluate_metrics.runners.judged import judge_answers
from evaluate_metrics.runners.model import ModelTracker, answer_items
from evaluate_metrics.runners.official import import_official
from evaluate_metrics.runners.reporting import main as report
from evaluate_metrics.runners.reporting import write_report
from evaluate_metrics.runners.scoring import bootstrap_interval, score_task
from evaluate_metrics.runners.splits import groups_of
from evaluate_metrics.runners.store import Truth, check_same_run, read_track, read_truth, write_lines
from evaluate_metrics.runners.work import Share, blocks, run_blocks
from evaluate_metrics.video_reg import captions

from . import miniatures
from .miniatures import BOXES, MAKERS

PERFECT = 20 / 21


class Pipe:
    """A pipeline that says the miniature's true box, moved by `shift` pixels; it can say nothing, or fill a gap."""

    device = "cpu"

    def __init__(self, shift=0.0, silent=(), filled=()):
        self.shift, self.silent, self.filled, self.asked = shift, set(silent), set(filled), []

    def __call__(self, videos, **asked):
        self.asked.append(asked)
        if asked.get("task") == "describe":
            return [{"description": "the red cat"}]
        if isinstance(videos, list):
            return [self._frames(video) for video in videos]
        return self._frames(videos)

    def _frames(self, video):
        for index in range(video.num_frames):
            x, y, w, h = BOXES[index % 6]
            box = {"xmin": x + self.shift, "ymin": y, "xmax": x + w + self.shift, "ymax": y + h}
            item = {"box": box, "score": 0.0 if index in self.filled else 0.9}
            frame = {"frame": index, "objects": [] if index in self.silent else [item]}
            yield frame

    def ask(self, video, question):
        return "A cat."


class ListPipe(Pipe):
    def _frames(self, video):
        return list(super()._frames(video))


@pytest.fixture
def lasot(tmp_path):
    miniatures.lasot(tmp_path / "LaSOT")
    return tmp_path / "LaSOT"


def run(task, data, out, *more):
    command.main(["--task", task, "--data", str(data), "--out", str(out), *more])


def tree(folder):
    """Bytes of everything but what says where a run ran."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "environment.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_raw_files_and_report(lasot, tmp_path):
    out = tmp_path / "results"
    run("lasot", lasot, out, "--trackers", "keep_first", "rounding_oracle")
    folder = out / "lasot-test-sot"
    first = (folder / "keep_first" / "cat-1.txt").read_text().splitlines()
    assert len(first) == 6 and first[0] == "4.0000,6.0000,20.0000,16.0000" and len(set(first)) == 1
    assert write_report(out, tmp_path / "report") == 0
    data = json.loads((tmp_path / "report" / "report.json").read_text())["lasot-test-sot"]
    oracle, floor = data["trackers"]
    assert (oracle["tracker"], floor["tracker"]) == ("rounding_oracle", "keep_first")
    # 2 of 6 frames are absent and miss; the rest of the oracle's boxes are within a cell of the truth.
    assert 0.5 < oracle["scores"]["auc"] <= PERFECT * 4 / 6
    # IoU of the first box, kept, by hand: shifted by (2t, t); frames 2 and 5 are absent.
    overlap = [(20 - 2 * t) * (16 - t) for t in range(6)]
    iou = [o / (2 * 320 - o) for o in overlap]
    expected = sum(np.mean([value > t for t in np.linspace(0, 1, 21)]) for value in np.delete(iou, [2, 5])) / 6
    assert floor["scores"]["auc"] == pytest.approx(expected)
    page = (tmp_path / "report" / "report.md").read_text()
    for words in (
        "convention pytracking",
        "OSTrack-384",
        "Elysium (paper",
        "attribute: FOC",
        "| cat-10 |",
        "95 % interval",
    ):
        assert words in page
    assert "\\toprule" in (tmp_path / "report" / "report.tex").read_text()
    assert (tmp_path / "report" / "lasot-test-sot-success.png").stat().st_size > 1000


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


def test_missing_and_broken_results_are_named_and_count(lasot, tmp_path):
    out = tmp_path / "results"
    run("lasot", lasot, out, "--trackers", "rounding_oracle")
    folder = out / "lasot-test-sot" / "rounding_oracle"
    write_report(out, tmp_path / "whole")
    whole = json.loads((tmp_path / "whole" / "report.json").read_text())["lasot-test-sot"]["trackers"][0]
    (folder / "cat-10.txt").unlink()
    (folder / "cat-1.txt").write_text("1,2,3,4\n")
    assert write_report(out, tmp_path / "report") == 3  # two missing, one reason
    one = json.loads((tmp_path / "report" / "report.json").read_text())["lasot-test-sot"]["trackers"][0]
    assert one["missing"] == ["cat-1", "cat-10"] and "6 numbers for 1 boxes" in one["problems"][0]
    # Only the first frame, which is given to every tracker, counts for them.
    assert one["scores"]["auc"] == pytest.approx(PERFECT / 6)
    assert whole["scores"]["auc"] > 0.5
    assert "2 without result, counted as failed" in (tmp_path / "report" / "report.md").read_text()


def test_corners_handed_as_sizes_are_suspected(lasot, tmp_path):
    raw = tmp_path / "raw" / "Other"
    corners = np.concatenate([BOXES[:, :2], BOXES[:, :2] + BOXES[:, 2:]], axis=1)
    for name in ("cat-1", "cat-10"):
        miniatures.lines(raw / f"{name}.txt", corners, "\t")
    run("lasot", lasot, tmp_path / "r", "--official-raw", str(tmp_path / "raw"))
    write_report(tmp_path / "r", tmp_path / "report")
    page = (tmp_path / "report" / "report.md").read_text()
    assert "boxes look like corners" in page and "read as corners the mean IoU of 12 frames is 1.00" in page


@pytest.mark.parametrize(
    ("task", "layout"),
    [
        ("lasot", "raw/T/{}.txt"),
        ("lasot", "raw/{}.txt"),
        ("lasot", "raw/T/param_000/{}.txt"),
        ("got10k", "raw/T/{0}/{0}_001.txt"),
    ],
)
def test_published_raw_results(tmp_path, task, layout):
    (tmp_path / "data").mkdir()
    MAKERS[task](tmp_path / "data")
    items = load_items(task, "sot", "val" if task == "got10k" else "test", tmp_path / "data")
    for item in items:
        miniatures.lines(tmp_path / layout.format(item.name), BOXES, "\t")
    run(task, tmp_path / "data", tmp_path / "r", "--official-raw", str(tmp_path / "raw"))
    write_report(tmp_path / "r", tmp_path / "report", convention="pytracking_unclipped", absent_as="ignore")
    (data,) = json.loads((tmp_path / "report" / "report.json").read_text()).values()
    (one,) = data["trackers"]
    assert one["scores"]["auc"] == pytest.approx(PERFECT) and one["missing"] == []


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


def test_truth_that_is_not_public_is_not_scored(tmp_path):
    miniatures.got10k(tmp_path)
    run("got10k", tmp_path, tmp_path / "r", "--split", "test", "--trackers", "keep_first")
    assert write_report(tmp_path / "r", tmp_path / "report") == 1
    assert "1 sequences have no public truth" in (tmp_path / "report" / "report.md").read_text()
    assert len((tmp_path / "r/got10k-test-sot/keep_first/GOT-10k_Val_000001.txt").read_text().splitlines()) == 6


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


def test_report_without_results(tmp_path):
    with pytest.raises(SystemExit, match="has no task"):
        report([str(tmp_path)])


def test_a_wrong_number_of_boxes_is_an_error(lasot, tmp_path):
    class Short(KeepFirst):
        def track(self, sequence, ask):
            return Track(sequence.boxes_xywh_px[:2], np.zeros(2))

    with pytest.raises(ValueError, match="'cat-1': keep_first gave 2 boxes for 6 frames"):
        run_blocks(load_items("lasot", "sot", "test", lasot), "sot", tmp_path, Share(), tracker=Short())


def test_bootstrap():
    low, high = bootstrap_interval([0.0, 1.0] * 50)
    assert 0.35 < low < 0.45 and 0.55 < high < 0.65  # 0.5 -+ 1.96 * 0.5 / 10
    assert bootstrap_interval([0.3, 0.3]) == pytest.approx((0.3, 0.3))
    assert np.isnan(bootstrap_interval([])).all()


def test_groups():
    boxes = np.array([[0, 0, 10, 10], [2, 0, 10, 10], [4, 0, 10, 10], [np.nan] * 4])
    truth = Truth("x", boxes, None, None, (), ("FOC", "IV"), True)
    assert groups_of(truth) == [
        "attribute: FOC", "attribute: IV", "occlusion: full", "size: below 24 px",
        "speed: 10 % and more", "absence: some frames", "length: up to 32 frames",
    ]  # fmt: skip


@pytest.mark.slow
def test_280_long_sequences_are_scored_in_ten_seconds(tmp_path):
    from evaluate_metrics.baselines.track import Track as Made
    from evaluate_metrics.runners.store import check_same_run, write_json, write_lines, write_track

    folder, boxes = tmp_path / "lasot-test-sot", np.abs(np.random.default_rng(0).normal(50, 9, (2500, 4)))
    task = {"task": "lasot", "split": "test", "ask": "sot", "items": 280, "convention": "lasot", "absent_as": None}
    write_json(folder / "task.json", task)
    names = [f"cat-{index}" for index in range(280)]
    write_lines(folder / "truth.jsonl", ({"name": name, "boxes": boxes.tolist()} for name in names))
    check_same_run(folder / "t" / "run.json", {"tracker": "t"})
    for name in names:
        write_track(folder / "t", name, Made(boxes, np.full(2500, np.nan)))
    truths = read_truth(folder)
    begin = time.process_time()
    score_task(folder, truths, task)
    assert time.process_time() - begin < 10
    shutil.rmtree(folder)


class OneJudge:
    """Says yes to "A cat." and never anything readable to the rest."""

    name = "made judge"

    def __call__(self, messages):
        return "{'pred': 'yes', 'score': 5}" if "A cat." in messages[-1]["content"] else "hm"


def test_a_judge_s_verdicts_are_a_file_that_the_report_reads(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    miniatures.msvd_qa(tmp_path / "data")
    monkeypatch.setattr(command, "_pipeline", lambda *_: ListPipe())
    run("msvd_qa", tmp_path / "data", tmp_path / "r")
    folder = tmp_path / "r" / "msvd_qa-test-vqa"
    truths, task = read_truth(folder), json.loads((folder / "task.json").read_text())
    judge_answers(folder / "elysium", truths, OneJudge())
    (one,) = score_task(folder, truths, task)
    (judged,) = one.judged
    assert (judged["gpt_accuracy"], judged["gpt_score"], judged["problems"]) == (1.0, 5.0, {})
    write_report(tmp_path / "r", tmp_path / "report")
    assert "| elysium | made judge | 1.000 | 5.000 | 1.000 | 1 of 1 |" in (tmp_path / "report/report.md").read_text()
    # Another answer than the one that was judged has no verdict, counts as wrong, and is named.
    write_lines(folder / "elysium" / "block-00000.jsonl", [{"name": truths[0].name, "text": "A dog."}])
    (one,) = score_task(folder, truths, task)
    assert one.judged[0]["gpt_accuracy"] == 0 and one.judged[0]["problems"] == {"answer changed": 1}
    assert "1 answers were not before it" in one.problems[0]


def test_presence_in_a_report(lasot, tmp_path):
    items = load_items("lasot", "sot", "test", lasot)

    class Knows(KeepFirst):
        name = "knows"

        def track(self, sequence, ask):  # says absent in frames 2 and 3; the truth is 2 and 5
            track = super().track(sequence, ask)
            presence, scores = np.full(6, 0.9), np.full(6, 0.9)
            presence[[2, 3]], scores[[2, 3]] = 0.1, 0.0
            return Track(track.boxes_xywh_px, scores, presence)

    run("lasot", lasot, tmp_path / "r", "--trackers", "keep_first")
    folder = tmp_path / "r" / "lasot-test-sot"
    run_blocks(items, "sot", folder / "knows", Share(), tracker=Knows())
    check_same_run(folder / "knows" / "run.json", {"tracker": "knows"})
    scored = score_task(folder, read_truth(folder), json.loads((folder / "task.json").read_text()))
    one = next(one for one in scored if one.tracker == "knows")
    assert one.counts == {"frames": 12, "without box": 0, "said absent": 4, "unreadable": 0}
    assert (one.presence["absence_precision"], one.presence["absence_recall"]) == (0.5, 0.5)
    assert one.presence["presence_precision"] == 0.75  # 3 of the 4 frames in which it says that the object is there
    write_report(tmp_path / "r", tmp_path / "report")
    page = (tmp_path / "report" / "report.md").read_text()
    assert "Does the tracker know when the object is gone?" in page and "| knows | 4 | 4 | 4 | 0.500 |" in page
