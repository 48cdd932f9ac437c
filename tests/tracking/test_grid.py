"""Another grid for box numbers is one constant: text, constrained decoding and training follow it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Runs where the constant is 1000.
SCRIPT = r"""
import numpy as np
from processing_elysium.boxes import format_box, parse_boxes
from tests.tracking.oracle import fitting_model
from tests.tracking.scripted import saying, scripted_model
from tests.tracking.test_decoding import assert_twins, frames_of, tracking
from tests.tracking.tokenizers_of_all_kinds import KINDS, processor_of
from train.miniature.build import build_tokenizer

# text both ways
rng = np.random.default_rng(0)
for corners in rng.random((200, 4)):
    box = np.concatenate([np.minimum(corners[:2], corners[2:]), np.maximum(corners[:2], corners[2:])])
    for rounding in ("floor", "round"):
        text = format_box(box, rounding)
        parsed = parse_boxes(text, 1, rounding)
        assert np.abs(parsed.boxes[0] - box).max() <= 0.001, (box, text)
        assert format_box(parsed.boxes[0], rounding) == text
assert format_box((0, 0.345, 0.5151, 1)) == "[0,345,515,999]"
assert format_box((0, 0.345, 0.5151, 1), "round") == "[0,345,515,1000]"
np.testing.assert_allclose(parse_boxes("[10%,20%,50%,40.5%]", 1).boxes[0], [0.1, 0.2, 0.5, 0.405])
# a number that may be cut in its last digit, or not
for cut, rounding, whole in [
    ("67", "floor", False), ("675", "floor", True), ("9", "floor", False), ("999", "floor", True),
    ("100", "floor", True), ("100", "round", False), ("675", "round", True), ("10", "round", False),
]:
    assert parse_boxes(f"Frame 1: [1,2,3,{cut}", 1, rounding).valid[0] == whole, (cut, rounding)

# constrained answers: fast and slow twin agree, and hold boxes finer than a hundredth
said = "Frame 1: [345,405,515,675], Frame 2: [346,400,517,999], Frame 3: [0,7,42,678]"
for kind in KINDS:
    processor = processor_of(kind)
    assert processor.box_grid == 1000
    frames = frames_of(3)
    requests = [tracking(processor, frames, "a swan", known_boxes=((0, (0.345, 0.405, 0.515, 0.675)),))]
    end = "." if processor.compat else ""
    model = scripted_model(processor, saying(processor, lambda question: said + end))
    (answer,), _ = assert_twins(model, processor, requests, constrained=True)
    assert answer.text.strip() == said + end
    boxes = processor.post_process_boxes(answer.text, 3).boxes
    offset = 0.5 if processor.box_rounding == "floor" else 0
    np.testing.assert_allclose(boxes[0] * 1000, np.array([345, 405, 515, 675]) + offset)
    random = fitting_model(processor, seed=3)
    (answer,), _ = assert_twins(random, processor, requests, constrained=True)
    assert processor.post_process_boxes(answer.text, 3).valid.all()

# training: every number is one piece
tokenizer = build_tokenizer(3072)
assert all(len(tokenizer.encode(str(n), add_special_tokens=False)) == 1 for n in range(1001))
"""


@pytest.fixture
def finer_tree(tmp_path):
    """The packages with the one constant changed, the other files as links."""
    for name in ("processing_elysium", "modeling_elysium", "tracking_elysium", "train", "dataset_scripts", "tests"):
        source = ROOT / name
        shutil.copytree(
            source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"), copy_function=os.symlink
        )
    path = tmp_path / "processing_elysium" / "boxes.py"
    source = path.read_text(encoding="utf-8")
    assert source.count("\nGRID = 100 ") == 1
    path.unlink()
    path.write_text(source.replace("\nGRID = 100 ", "\nGRID = 1000 "), encoding="utf-8")
    return tmp_path


def test_a_grid_of_1000_goes_round(finer_tree):
    env = {**os.environ, "PYTHONPATH": str(finer_tree)}
    command = [sys.executable, "-c", SCRIPT]
    result = subprocess.run(command, cwd=finer_tree, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
