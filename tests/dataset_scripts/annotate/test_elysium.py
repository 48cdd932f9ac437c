"""Elysium itself, with the small checkpoint of drawn shapes, behind both tools: from a box and from words."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from dataset_scripts.annotate.config import AnnotateConfig
from dataset_scripts.annotate.cvat import CvatFunction
from dataset_scripts.annotate.keyframes import Keyframe, drawn_boxes
from dataset_scripts.annotate.propagate import Propagator
from dataset_scripts.construction.config import BackendConfig
from processing_elysium.boxes import iou
from processing_elysium.frames import open_video
from tests.house.source import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
FRAMES = 12


@pytest.fixture(scope="module")
def function():
    backend = BackendConfig("elysium", {"checkpoint": str(FIXTURES / "drawn_shapes")})
    return CvatFunction(
        Propagator(AnnotateConfig(str(FIXTURES), backend, backend, max_frames=FRAMES, search_frames=1))
    )


@pytest.fixture(scope="module")
def truth():
    record = json.loads((FIXTURES / "drawn_sample.json").read_text())
    (item,) = [one for one in record["objects"] if one["expression"] == "the yellow diamond"]
    return np.array(item["box"]), record["frame_size"]


def boxes_of(track, size):
    keys = [
        Keyframe(s["frame"], np.array(s["points"]) / np.tile(size, 2), s["score"])
        for s in track["shapes"]
        if not s["outside"]
    ]
    return drawn_boxes(keys, FRAMES), len(keys)


def test_whole_tracks(function, truth):
    boxes, size = truth
    start = [float(v) for v in boxes[0] * np.tile(size, 2)]
    for asked in ({"frame": 0, "shapes": [start]}, {"phrases": ["the yellow diamond"]}):
        (track,) = function.answer({"video": "drawn_sample.mp4", **asked})["tracks"]
        found, count = boxes_of(track, size)
        assert iou(found, boxes[:FRAMES]).mean() > 0.6 and count < FRAMES, asked
        assert 0 < track["score"] <= 1 and track["shapes"][-1]["frame"] == FRAMES


def test_a_frame_at_a_time(function, truth):
    boxes, size = truth
    with open_video(str(FIXTURES / "drawn_sample.mp4")) as video:
        frames = video.read(range(4))
    body = {"shapes": [[float(v) for v in boxes[0] * np.tile(size, 2)]]}
    for number, frame in enumerate(frames):
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "PNG")
        answer = function.answer({"image": base64.b64encode(buffer.getvalue()).decode(), **body})
        found = np.array(answer["shapes"]) / np.tile(size, 2)
        assert iou(found, boxes[number : number + 1]).item() > 0.6, number
        body = {"states": answer["states"]}
