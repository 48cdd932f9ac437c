"""One video through all stages with OpenCV's tracker and a grounder that looks for bright pixels."""

import numpy as np
import pytest

from dataset_scripts.construction.backends.opencv import OpenCVTrackers
from dataset_scripts.construction.config import BackendConfig, BuildConfig, InputConfig
from dataset_scripts.construction.inputs import read_inputs
from dataset_scripts.construction.noun_chunks import load_spacy
from dataset_scripts.construction.process import Components, VideoProcessor
from dataset_scripts.construction.protocols import Detections
from dataset_scripts.synthetic.write import write_video
from processing_elysium.boxes import iou

pytest.importorskip("spacy")
pytest.importorskip("filterpy")


class BrightGrounder:
    def ground(self, frames, phrases):
        return [Detections.sorted([self.box(frame)], [0.9]) for frame in frames]

    @staticmethod
    def box(frame):
        rows, columns = np.nonzero(frame.min(axis=2) > 128)
        return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 96


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 90, (1, 96, 96, 3), dtype=np.uint8), 12, axis=0)
    patch = rng.integers(180, 256, (30, 30, 3), dtype=np.uint8)
    for number, frame in enumerate(frames):
        frame[30:60, 20 + 2 * number : 50 + 2 * number] = patch
    write_video(folder / "a.mp4", frames)
    write_video(folder / "short.mp4", frames[:1])
    (folder / "broken.mp4").write_bytes(b"no video")
    names, words = ("a", "short", "broken", "gone"), "A white square is moving over two cats."
    rows = ["id,video,caption", *(f"{n},{n}.mp4,{words}" for n in names)]
    (folder / "t.csv").write_text("\n".join(rows))
    config = BuildConfig(
        input=InputConfig("table", str(folder / "t.csv")), output=str(folder / "out"),
        grounder=BackendConfig("custom"), tracker=BackendConfig("csrt"),
    )  # fmt: skip
    parts = Components(load_spacy("en_core_web_sm"), BrightGrounder(), OpenCVTrackers("csrt"))
    processor = VideoProcessor(config, parts)
    return {item.id: processor.process(item) for item in read_inputs(config.input)}


def test_a_good_video_gives_its_trajectory(run):
    (row,) = run["a"].rows
    assert row.phrase.lower().startswith("a white square") and row.video == "../a.mp4"
    truth = np.array([[20 + 2 * n, 30, 50 + 2 * n, 60] for n in range(12)]) / 96
    assert iou(row.boxes, truth).min() > 0.6
    assert run["a"].dropped["noun_chunks.plural"] == 1 and row.provenance["measured"]["iou_last"] > 0.6


def test_bad_videos_are_named(run):
    assert run["short"].dropped["video.too_short"] == 1
    assert run["broken"].quarantined[0] == "video_unreadable"
    assert run["gone"].quarantined[0] == "video_missing"
