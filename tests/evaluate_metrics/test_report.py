"""Reports: scores of what a run wrote, what is missing or doubtful in it, judges and presence."""

import json
import shutil
import time

import numpy as np
import pytest

from evaluate_metrics.baselines.track import KeepFirst, Track
from evaluate_metrics.readers.tasks import load_items
from evaluate_metrics.runners import command
from evaluate_metrics.runners.judged import judge_answers
from evaluate_metrics.runners.reporting import main as report
from evaluate_metrics.runners.reporting import write_report
from evaluate_metrics.runners.scoring import bootstrap_interval, score_task, score_tracker
from evaluate_metrics.runners.splits import groups_of
from evaluate_metrics.runners.store import Truth, check_same_run, read_truth, write_lines
from evaluate_metrics.runners.work import Share, run_blocks
from evaluate_metrics.video_reg import captions

from . import miniatures
from .miniature_runs import ListPipe, run
from .miniatures import BOXES, MAKERS

PERFECT = 20 / 21


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


def test_truth_that_is_not_public_is_not_scored(tmp_path):
    miniatures.got10k(tmp_path)
    run("got10k", tmp_path, tmp_path / "r", "--split", "test", "--trackers", "keep_first")
    assert write_report(tmp_path / "r", tmp_path / "report") == 1
    assert "1 sequences have no public truth" in (tmp_path / "report" / "report.md").read_text()
    assert len((tmp_path / "r/got10k-test-sot/keep_first/GOT-10k_Val_000001.txt").read_text().splitlines()) == 6


def test_report_without_results(tmp_path):
    with pytest.raises(SystemExit, match="has no task"):
        report([str(tmp_path)])


def test_bootstrap():
    low, high = bootstrap_interval([0.0, 1.0] * 50)
    assert 0.35 < low < 0.45 and 0.55 < high < 0.65  # 0.5 -+ 1.96 * 0.5 / 10
    assert bootstrap_interval([0.3, 0.3]) == pytest.approx((0.3, 0.3))
    assert np.isnan(bootstrap_interval([])).all()


def test_only_means_of_items_have_an_interval(tmp_path, monkeypatch):
    """BLEU has no items, and METEOR of a corpus is no mean of theirs: resampling items says nothing of either."""
    monkeypatch.setattr(captions, "java_is_usable", lambda: False)
    said = {"a": "a red cat", "b": "the dog", "c": "a small bird on the old brown fence behind the house"}
    true = {"a": "a red cat", "b": "a dog runs", "c": "a bird on the fence"}
    write_lines(tmp_path / "block-00000.jsonl", [{"name": name, "text": text} for name, text in said.items()])
    (tmp_path / "run.json").write_text("{}")
    truths = [Truth(name, np.zeros((1, 4)), None, None, (text,), (), True) for name, text in true.items()]
    one = score_tracker(tmp_path, truths, {"ask": "video_reg"})
    means = {name: np.mean([item[name] for item in one.per_item.values()]) for name in one.per_item["a"]}
    assert abs(means["meteor_exact"] - one.scores["meteor_exact"]) > 0.01  # else this shows nothing
    assert "meteor_exact" in one.scores and "meteor_exact" not in one.intervals
    assert not any(name.startswith("bleu") for name in one.intervals)
    assert "cider" in one.intervals
    for name, (low, high) in one.intervals.items():
        assert low <= one.scores[name] <= high and one.scores[name] == pytest.approx(means[name])


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
