"""A build with spaCy's model and OpenCV's trackers on drawn videos; the grounder knows the drawn colors."""

from pathlib import Path

import numpy as np
import pytest

from dataset_scripts.construction.config import BackendConfig, BuildConfig, InputConfig
from dataset_scripts.construction.executor import run_build
from dataset_scripts.construction.inputs import read_inputs
from dataset_scripts.construction.rows import read_trajectories
from dataset_scripts.synthetic.write import write_video
from processing_elysium.boxes import iou

pytest.importorskip("spacy")
pytest.importorskip("filterpy")

SIDE, FRAMES, OBJECT = 128, 16, 32


def way(step, jump=0):
    """Return the left top corner (x, y) in every frame; from the middle on it lies `jump` pixels further."""
    return [(20 + step * n + (jump if n >= FRAMES // 2 else 0), 40 + n // 2) for n in range(FRAMES)]


def boxes_of(corners):
    return np.array([[x, y, x + OBJECT, y + OBJECT] for x, y in corners]) / SIDE


def draw(path, objects):
    """Write a video of textured squares; `objects` are (channel, corners)."""
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 70, (1, SIDE, SIDE, 3), dtype=np.uint8), FRAMES, axis=0)
    for channel, corners in objects:
        texture = rng.integers(0, 60, (OBJECT, OBJECT, 3), dtype=np.uint8)
        texture[:, :, channel] = np.kron(rng.integers(150, 256, (8, 8)), np.ones((4, 4))).astype(np.uint8)
        for frame, (x, y) in zip(frames, corners, strict=True):
            frame[y : y + OBJECT, x : x + OBJECT] = texture
    write_video(path, frames)


@pytest.mark.parametrize("tracker", ["csrt", "kcf"])
def test_good_tracks_are_kept_and_jumps_and_words_dropped(tmp_path, monkeypatch, tracker):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    videos = {
        "good": ("A red square is moving over two cats at night.", [(0, way(2))]),
        "jump": ("A blue square is moving with love.", [(2, way(0, jump=60))]),
        "lost": ("A green square is moving.", [(0, way(1))]),
    }
    for name, (caption, objects) in videos.items():
        draw(tmp_path / f"{name}.mp4", objects)
        (tmp_path / f"{name}.txt").write_text(caption)
    config = BuildConfig(
        input=InputConfig("folder", str(tmp_path)), output=str(tmp_path / "out"), tracker=BackendConfig(tracker),
        grounder=BackendConfig("custom", {"factory": "fake_backends:ColorGrounder"}),
    )  # fmt: skip
    (entry,) = run_build(config, read_inputs(config.input))
    (row,) = read_trajectories(tmp_path / "out")
    assert row.video_id == "good" and "red square" in row.phrase and iou(row.boxes, boxes_of(way(2))).min() > 0.5
    assert entry.counts == {"videos": 3, "phrases": 6, "kept": 1} and not entry.quarantined
    assert entry.dropped["noun_chunks.plural"] == 1 and entry.dropped["grounding.first_frame"] == 1
    assert sum(n for name, n in entry.dropped.items() if name.startswith(("tracking", "drift", "consistency"))) == 1
