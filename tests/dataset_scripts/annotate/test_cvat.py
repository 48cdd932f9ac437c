"""CVAT's serverless function: requests of its lambda manager, and whole tracks in the form of its annotations."""

import base64
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from dataset_scripts.annotate.cvat import CvatFunction
from dataset_scripts.annotate.nuclio import main
from processing_elysium.boxes import iou
from processing_elysium.frames import open_video

from .drawn import FRAMES, HIDDEN, SIZE, propagator, true_box, write_drawn

FOLDER = Path(main.__file__).parent


@pytest.fixture(autouse=True)
def drawn_backends(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    root = tmp_path_factory.mktemp("media")
    write_drawn(root / "red.mp4")
    write_drawn(root / "hidden.mp4", HIDDEN)
    return root


def corners(frame):
    """The object's corners in pixels."""
    return [float(v) for v in np.clip(true_box(frame), 0, 1) * np.array([*SIZE, *SIZE])]


def picture(frame, size=None):
    """A frame as CVAT sends it."""
    buffer = io.BytesIO()
    image = Image.fromarray(frame)
    (image.resize(size) if size else image).save(buffer, "JPEG", quality=95)
    return base64.b64encode(buffer.getvalue()).decode()


class Context:
    """What nuclio hands to a function."""

    def __init__(self):
        self.user_data, self.said = SimpleNamespace(), []
        self.logger = SimpleNamespace(info=self.said.append, warn=self.said.append)

    Response = staticmethod(lambda **given: SimpleNamespace(**given))


def call(function, body):
    """Send a body as nuclio does; JSON goes both ways, as through CVAT."""
    context = Context()
    context.user_data.function = function
    answer = main.handler(context, SimpleNamespace(body=json.loads(json.dumps(body))))
    return answer.status_code, json.loads(answer.body)


@pytest.mark.parametrize("typed", [True, False])
def test_a_frame_at_a_time(media, typed):
    """CVAT writes shapes with their type where a function says which it supports, and corners alone where not."""
    with open_video(str(media / "hidden.mp4")) as video:
        frames = video.read(range(FRAMES))
    function = CvatFunction(propagator(media))

    def shape(points):
        return {"type": "rectangle", "points": points} if typed else points

    status, answer = call(function, {"image": picture(frames[0]), "shapes": [shape(corners(0))] * 2, "states": []})
    assert (status, answer["shapes"]) == (200, [shape(corners(0))] * 2)
    for number in range(1, FRAMES):
        # to go on, the page sends states and no shapes, and CVAT fills up with nulls
        body = {"image": picture(frames[number]), "shapes": [None, None], "states": answer["states"]}
        status, answer = call(function, body)
        assert status == 200 and answer["shapes"][0] == answer["shapes"][1]
        if number in HIDDEN:
            assert answer["shapes"][0] is None
        else:
            found = answer["shapes"][0]["points"] if typed else answer["shapes"][0]
            assert iou(np.array(found)[None], np.array(corners(number))[None]).item() > 0.8, number


def test_the_tracker_sees_the_frame_before_and_the_new_one(media):
    seen = []

    class Spy:
        def follow(self, frames, boxes):
            for frame in frames:
                seen.append((frame.shape, int(frame.mean().round()), boxes.tolist()))
                yield boxes + 0.1 * (len(seen) - 1), np.ones(len(boxes))

    models = propagator(media, state_side=64)
    models.tracker = Spy()
    bright, dark = np.full((96, 128, 3), 200, dtype=np.uint8), np.full((96, 128, 3), 20, dtype=np.uint8)
    box = [12.8, 9.6, 64.0, 48.0]
    _, answer = call(CvatFunction(models), {"image": picture(bright), "shapes": [box]})
    _, answer = call(CvatFunction(models), {"image": picture(dark), "states": answer["states"]})
    assert [one[:2] for one in seen] == [((48, 64, 3), 200), ((48, 64, 3), 20)]  # no larger than state_side
    np.testing.assert_allclose(seen[0][2], [[0.1, 0.1, 0.5, 0.5]])
    np.testing.assert_allclose(answer["shapes"], [[25.6, 19.2, 76.8, 57.6]])


def drawn_by_the_tool(track):
    """Boxes (F, 4) in pixels as CVAT draws keyframes: straight lines, the last one to the end, none while outside."""
    boxes, shapes = np.full((FRAMES, 4), np.nan), track["shapes"]
    for shape, following in zip(shapes, [*shapes[1:], None], strict=True):
        stop = FRAMES if following is None else following["frame"]
        goal = shape["points"] if following is None or following["outside"] else following["points"]
        for frame in range(shape["frame"], stop):
            share = (frame - shape["frame"]) / (stop - shape["frame"])
            if not shape["outside"]:
                boxes[frame] = np.array(shape["points"]) * (1 - share) + np.array(goal) * share
    return boxes


def test_whole_tracks(media):
    function = CvatFunction(propagator(media))
    status, answer = call(function, {"video": "hidden.mp4", "frame": 2, "shapes": [corners(2)]})
    (track,) = answer["tracks"]
    assert status == 200 and track["frame"] == 2 and len(track["shapes"]) < 15 and 0.85 < track["score"] < 1
    assert [s["outside"] for s in track["shapes"] if s["frame"] in (HIDDEN.start, HIDDEN.stop)] == [True, False]
    boxes = drawn_by_the_tool(track)
    unseen = np.isnan(boxes).any(axis=1)
    assert np.flatnonzero(unseen).tolist() == [0, 1, *HIDDEN]
    wanted = np.array([corners(frame) for frame in range(FRAMES)])
    assert iou(boxes[~unseen], wanted[~unseen]).min() > 0.7
    status, answer = call(function, {"video": "red.mp4", "phrases": ["a green one", "the red one"]})
    assert status == 200 and [track["label"] for track in answer["tracks"]] == ["the red one"]


def test_going_on_from_a_corrected_frame(media):
    function = CvatFunction(propagator(media, tracker="StillTrackers", max_frames=20))
    _, answer = call(function, {"video": "red.mp4", "frame": 0, "shapes": [corners(0)]})
    (track,) = answer["tracks"]
    assert [(s["frame"], s["outside"]) for s in track["shapes"]] == [(0, False), (19, False), (20, True)]
    middle = {**track["shapes"][0], "frame": 8, "points": corners(8)}
    track = {**track, "label_id": 5, "shapes": [track["shapes"][0], middle, *track["shapes"][1:]]}
    status, answer = call(function, {"video": "red.mp4", "frame": 8, "tracks": [track]})
    (new,) = answer["tracks"]
    assert status == 200 and (new["frame"], new["label_id"]) == (0, 5)
    assert [(s["frame"], s["outside"]) for s in new["shapes"]] == [(0, False), (8, False), (27, False), (28, True)]
    assert [s["points"] for s in new["shapes"]] == [corners(0), *[corners(8)] * 3]


GOOD = {"shapes": [[1, 2, 30, 40]]}
PIXELS = picture(np.zeros((96, 128, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "must be an object"),
        ({}, "neither image"),
        ({"video": "red.mp4", "image": PIXELS}, "not both"),
        ({"image": 3, **GOOD}, "base64"),
        ({"image": "!", **GOOD}, "cannot be read"),
        ({"image": base64.b64encode(b"no picture").decode(), **GOOD}, "cannot be read"),
        ({"image": "A" * 2**21, **GOOD}, "at most 1 MiB"),
        ({"image": PIXELS, "shapes": [[1, 2, 3]]}, "must have 4 numbers"),
        ({"image": PIXELS, "shapes": [[1, 2, 3, "4"]]}, "must be a number"),
        ({"image": PIXELS, "shapes": [[30, 40, 1, 2]]}, "no area"),
        ({"image": PIXELS, "shapes": [{"type": "mask", "points": []}]}, "only rectangles"),
        ({"image": PIXELS, "shapes": [{"type": "rectangle", "points": [1, 2, 30, 40], "rotation": 9}]}, "upright"),
        ({"image": PIXELS, "shapes": [None]}, "must be a list"),
        ({"image": PIXELS, "shapes": [[1, 2, 30, 40]] * 9}, "at most 5"),
        ({"image": PIXELS, "states": [{"box": [0, 0, 1, 1]}]}, "not a state"),
        ({"image": PIXELS, "states": [{"box": [0, 0, 1, 2], "frame": PIXELS}]}, "must be a number from 0 to 1"),
        ({"image": PIXELS, "states": [{"box": [0, 0, 1, 1], "frame": "?"}]}, "cannot be read"),
        ({"video": "../red.mp4", **GOOD}, "outside the media root"),
        ({"video": "red.mp4"}, "give one of shapes, phrases, tracks"),
        ({"video": "red.mp4", "frame": 30, **GOOD}, "from 0 to 29"),
        ({"video": "red.mp4", "phrases": [" "]}, "must be a text"),
        ({"video": "red.mp4", "frame": 3, "tracks": [{"shapes": []}]}, "no box at frame 3"),
    ],
)
def test_bad_requests(media, body, says):
    status, answer = call(CvatFunction(propagator(media, max_request_mb=1, max_objects=5)), body)
    assert status == 400 and says in answer["error"], answer


def test_a_tracker_that_fails(media):
    function = CvatFunction(propagator(media, tracker="FailingTrackers"))
    status, answer = call(function, {"video": "red.mp4", "frame": 0, "shapes": [corners(0)]})
    assert status == 500 and "out of memory" in answer["error"]


def test_a_body_that_is_no_json(media):
    context = Context()
    context.user_data.function = CvatFunction(propagator(media))
    assert main.handler(context, SimpleNamespace(body=b"\xff{")).status_code == 400 and "refused" in context.said[-1]


def test_the_function_is_built_from_its_configuration(tmp_path, monkeypatch):
    settings = {"media_root": str(tmp_path), "tracker": {"kind": "custom", "options": {"factory": "drawn:Trackers"}}}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv(main.CONFIG, str(tmp_path / "settings.yaml"))
    context = Context()
    main.init_context(context)
    body = {"image": PIXELS, **GOOD}
    assert main.handler(context, SimpleNamespace(body=body)).status_code == 200


def test_what_nuclio_and_cvat_read():
    """The keys that CVAT's gateway reads of a function, and nuclio's of a handler."""
    function = yaml.safe_load((FOLDER / "function.yaml").read_text())
    notes, spec = function["metadata"]["annotations"], function["spec"]
    assert (notes["type"], notes["supported_shape_types"]) == ("tracker", "rectangle") and notes["spec"] is None
    module, _, name = spec["handler"].partition(":")
    assert (FOLDER / f"{module}.py").is_file() and callable(getattr(main, name))
    settings = yaml.safe_load((FOLDER / "function_config.yaml").read_text())
    assert settings["media_root"] == spec["volumes"][0]["volumeMount"]["mountPath"]
    assert {e["name"]: e["value"] for e in spec["env"]}[main.CONFIG].endswith("/function_config.yaml")
