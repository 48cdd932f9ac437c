"""Tasks for lmms-eval: boxes as other models write them, rows, scores; lmms-eval itself if ELYSIUM_LMMS_PYTHON is set.

The last test runs lmms-eval 0.7.3 with the checkpoint of drawn shapes: set ELYSIUM_LMMS_PYTHON to the python of an
environment that has it.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from evaluate_metrics.lmms_tasks import functions
from evaluate_metrics.lmms_tasks.answers import FORMATS, read_answer, written
from evaluate_metrics.runners.lmms_folder import main

from . import miniatures

ROOT = Path(__file__).resolve().parents[2]
SIZE = (200, 100)
BOX = [0.1, 0.2, 0.5, 0.8]  # 20, 20, 100, 80 in pixels
NAN = [np.nan] * 4


@pytest.mark.parametrize(
    ("box_format", "text", "boxes"),
    [
        ("relative", "Frame 1: [0.1,0.2,0.5,0.8], Frame 2: [0.1, 0.2, 0.5, 0.8]", [BOX, BOX]),
        ("relative", "Frame 2: [0.5,0.8,0.1,0.2]", [NAN, BOX]),  # corners in the other order
        ("relative", "[0.1,0.2,0.5,0.8]", [BOX, NAN]),  # no frame named, one box: the first
        ("relative", "[0.1,0.2,0.5,0.8] [0.1,0.2,0.5,0.8]", [BOX, BOX]),
        ("relative", "[100,200,500,800]", [NAN, NAN]),  # another convention
        ("relative", "I see no object.", [NAN, NAN]),
        ("relative", "", [NAN, NAN]),
        ("relative", "Frame 1: [0.1,0.2,0.5", [NAN, NAN]),  # cut off
        ("relative", "Frame 9: [0.1,0.2,0.5,0.8]", [NAN, NAN]),
        ("relative", "Frame 1: [0.1,0.2,0.1,0.8]", [NAN, NAN]),  # no area
        ("thousandths", "frame 1: [[100, 200, 500, 800]] frame 2: (100, 200, 500, 800)", [BOX, BOX]),
        ("pixels", "Frame 1: [20, 20, 100, 80]", [BOX, NAN]),
        ("qwen_vl", "Frame 1: <ref>cat</ref><box>(100,200),(500,800)</box>", [BOX, NAN]),
        ("json_pixels", '```json\n[{"frame": 2, "bbox_2d": [20, 20, 100, 80], "label": "cat"}]\n```', [NAN, BOX]),
        ("json_pixels", '[{"bbox_2d": [20, 20, 100, 80]}, {"bbox_2d": [20, 20, 100, 80]}, {"bbox', [BOX, BOX]),
        ("json_pixels", '[{"frame": "Frame 1", "bbox_2d": [20, 20, 100]}]', [NAN, NAN]),
        ("json_thousandths", '{"frame": "Frame 1", "bbox_2d": [100, 200, 500, 800]}', [BOX, NAN]),
        ("json_yxyx", '[{"frame": 1, "box_2d": [200, 100, 800, 500]}]', [BOX, NAN]),
        ("elysium", "Frame 2: [10,20,50,80]", [NAN, [0.105, 0.205, 0.505, 0.805]]),
    ],
)
def test_answers(box_format, text, boxes):
    np.testing.assert_allclose(read_answer(text, 2, box_format, SIZE), boxes, atol=1e-9)


@pytest.mark.parametrize("box_format", FORMATS)
def test_what_a_question_says_is_read_back(box_format):
    text = f"Frame 1: {written(np.array(BOX), box_format, SIZE)}"
    np.testing.assert_allclose(read_answer(text, 1, box_format, SIZE)[0], BOX, atol=0.006)


def test_an_unknown_format():
    with pytest.raises(ValueError, match="'words' is unknown; use one of elysium"):
        read_answer("", 1, "words", SIZE)


@pytest.fixture
def folder(tmp_path):
    miniatures.elysiumtrack(tmp_path / "data")
    arguments = ["--task", "elysiumtrack", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "tasks")]
    main([*arguments, "--box-format", "json_pixels", "--frames", "4"])
    return tmp_path / "tasks"


def test_the_folder_holds_rows_and_tasks(folder):
    (row,) = [json.loads(line) for line in (folder / "sot.jsonl").read_text().splitlines()]
    assert [Path(path).name for path in row["frames"]] == ["0.jpg", "2.jpg", "3.jpg", "5.jpg"]
    x, y, w, h = miniatures.BOXES[0]
    np.testing.assert_allclose(np.array(row["boxes"][0]) * [64, 48, 64, 48], [x, y, x + w, y + h])
    yaml.SafeLoader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    for ask in ("sot", "rsot", "video_reg"):
        task = yaml.safe_load((folder / f"{ask}.yaml").read_text())
        assert task["task"] == f"elysium_{ask}_json_pixels"
        named = [task[key] for key in ("doc_to_visual", "doc_to_text", "doc_to_target", "process_results")]
        for name in named + [metric["aggregation"] for metric in task["metric_list"]]:
            assert callable(getattr(functions, name.rpartition(".")[2])), name
    assert "[4,6,24,22]" in functions.sot_text(row) and "the red cat" in functions.rsot_text(row)
    assert len(functions.frames(row)) == 4


def test_scores_count_what_cannot_be_read(folder):
    row = json.loads((folder / "sot.jsonl").read_text())
    boxes = np.array(row["boxes"]) * [64, 48, 64, 48]
    said = json.dumps([{"frame": i, "bbox_2d": box.tolist()} for i, box in enumerate(boxes, 1)])
    perfect = [functions.track_results(row, [said])["auc"]]
    assert functions.auc(perfect) == pytest.approx(20 / 21) and functions.unreadable(perfect) == 0
    both = [*perfect, functions.track_results(row, ["sorry"])["auc"]]
    assert functions.unreadable(both) == 0.5 and functions.auc(both) < functions.auc(perfect)
    captions = [functions.caption_results(row, [text])["cider"] for text in ("the red cat", "")]
    assert functions.unanswered(captions) == 0.5 and 0 < functions.meteor_exact(captions) < 1


@pytest.mark.slow
@pytest.mark.skipif("ELYSIUM_LMMS_PYTHON" not in os.environ, reason="names the python that has lmms-eval")
def test_lmms_eval_itself(tmp_path):
    python = os.environ["ELYSIUM_LMMS_PYTHON"]
    main(["--task", "synthetic", "--split", "val", "--limit", "2", "--box-format", "elysium", "--out", str(tmp_path)])
    subprocess.run([python, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)], cwd=ROOT, check=True)
    tasks = [f"elysium_{ask}_elysium" for ask in ("sot", "rsot", "video_reg")]
    command = [python, "-m", "lmms_eval", "--model", "elysium", "--device", "cpu", "--batch_size", "2"]
    command += ["--model_args", f"pretrained={ROOT / 'tests/fixtures/drawn_shapes'}", "--tasks", ",".join(tasks)]
    command += ["--include_path", str(tmp_path), "--log_samples", "--output_path", str(tmp_path / "out")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{tmp_path}"
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    (found,) = (tmp_path / "out").rglob("*results.json")
    results = json.loads(found.read_text())["results"]
    assert results[tasks[0]]["auc,none"] > 0.5 and results[tasks[0]]["unreadable,none"] == 0
    assert results[tasks[1]]["auc,none"] > 0 and results[tasks[2]]["cider,none"] > 0
