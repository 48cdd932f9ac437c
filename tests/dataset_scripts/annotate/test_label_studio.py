"""Label Studio's ML-backend protocol over HTTP: requests as its `api_connector` sends them, answers of ours."""

import base64
import http.client
import json
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from dataset_scripts.adapters.common import Reading
from dataset_scripts.adapters.my_boxes.label_studio import read
from dataset_scripts.adapters.my_boxes.media import MediaFolder
from dataset_scripts.annotate.server import AnnotationServer, Credentials
from processing_elysium.boxes import iou

from .drawn import FRAMES, HIDDEN, propagator, true_box, write_drawn

CONFIG = """<View>
  <!-- tracked by a model -->
  <Labels name="videoLabels" toName="video"><Label value="red_square"/><Label value="cat"/></Labels>
  <Video name="video" value="$video" framerate="10"/>
  <VideoRectangle name="box" toName="video" smart="true"/>
</View>"""
PROJECT = {"project": "7.1700000000", "label_config": CONFIG, "model_version": None}


@pytest.fixture(autouse=True)
def drawn_backends(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A media root as Label Studio's, and a video beside it that is none of its business."""
    root = tmp_path_factory.mktemp("label-studio")
    write_drawn(root / "media" / "upload" / "7" / "0a1b2c3d-red.mp4")
    write_drawn(root / "media" / "hidden.mp4", HIDDEN)
    write_drawn(root / "secret.mp4")
    (root / "media" / "note.txt").write_text("no video")
    (root / "media" / "link.mp4").symlink_to(root / "secret.mp4")
    return root / "media"


@contextmanager
def serving(root, credentials=None, **settings):
    """Serve in a thread; gives `ask(path, body)`, which returns status and answer."""
    with AnnotationServer(propagator(root, **settings), credentials) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def ask(path, body=None, headers=None, method=None):
            connection = http.client.HTTPConnection(*server.server_address[:2], timeout=30)
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            sent = {"Content-Type": "application/json", **(headers or {})}
            sent = {name: value for name, value in sent.items() if value is not None}
            connection.request(method or ("GET" if body is None else "POST"), path, content, sent)
            answer = connection.getresponse()
            assert answer.headers["Content-Type"] == "application/json"
            return answer.status, json.loads(answer.read())

        try:
            yield ask
        finally:
            server.shutdown()
            thread.join()


def keyframe(frame, box, **more):
    """A keyframe as the page draws it: per cent, frames from 1."""
    x1, y1, x2, y2 = (float(v) * 100 for v in box)
    return {"frame": frame + 1, "enabled": True, "rotation": 0, "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1,
            "time": (frame + 1) / 10, **more}  # fmt: skip


def region(*sequence, frames_count=FRAMES, **more):
    """A region as the page sends it in the context."""
    return {
        "id": "x-qq0Yhy98", "type": "videorectangle", "from_name": "box", "to_name": "video", "origin": "manual",
        "value": {"framesCount": frames_count, "duration": 3.0, "sequence": list(sequence), "labels": ["red_square"]},
        **more,
    }  # fmt: skip


def interactive(*regions, video="/data/upload/7/0a1b2c3d-red.mp4"):
    """What /predict is sent when an annotator draws."""
    context = {"result": list(regions)} if regions else {}
    task = {"id": 11, "data": {"video": video}, "annotations": [], "predictions": []}
    return {**PROJECT, "tasks": [task], "params": {"login": None, "password": None, "context": context}}


def drawn_by_the_tool(prediction, media, tmp_path, video="upload/7/0a1b2c3d-red.mp4"):
    """The boxes (F, 4) of a prediction as this repository reads Label Studio's export, NaN where absent."""
    export = tmp_path / "export.json"
    export.write_text(json.dumps([{"id": 1, "data": {"video": video}, "annotations": [prediction]}]))
    (record,) = read(export, MediaFolder(media, tmp_path), Reading())
    (item,) = record.objects
    boxes = np.full((FRAMES, 4), np.nan)
    boxes[record.frame_indices] = np.where(item.absent[:, None], np.nan, item.boxes)
    return boxes


def test_protocol(media):
    with serving(media) as ask:
        for path in ("/", "/health"):
            assert ask(path) == (200, {"status": "UP", "model_class": "elysium-custom"})
        body = {"project": "7.1700000000", "schema": CONFIG, "hostname": "http://localhost:8080", "access_token": "t"}
        assert ask("/setup", body) == (200, {"model_version": "elysium-custom"})
        event = {"action": "ANNOTATION_CREATED", "project": {"id": 7, "label_config": CONFIG}}
        assert ask("/webhook", event) == (201, {"result": {}, "status": "ok"})
        assert ask("/webhook", {**event, "action": "PROJECT_UPDATED"}) == (200, {"status": "Unknown event"})


def test_one_box_becomes_a_whole_track(media, tmp_path):
    with serving(media) as ask:
        status, answer = ask("/predict", interactive(region(keyframe(3, true_box(3)))))
    assert status == 200
    (prediction,) = answer["results"]
    assert prediction["model_version"] == "elysium-custom" and 0.85 < prediction["score"] <= 1
    (found,) = prediction["result"]
    assert {key: found[key] for key in ("id", "from_name", "to_name", "type")} == {
        "id": "x-qq0Yhy98", "from_name": "box", "to_name": "video", "type": "videorectangle",
    }  # fmt: skip
    value = found["value"]
    assert (value["framesCount"], value["duration"], value["labels"]) == (FRAMES, 3.0, ["red_square"])
    steps = value["sequence"]
    assert len(steps) < 8 and steps[0]["frame"] == 4 and steps[-1]["frame"] == FRAMES and not steps[-1]["enabled"]
    assert [step["score"] for step in steps] == [1.0] + [0.9] * (len(steps) - 1)
    assert "predicted" not in steps[0]  # the annotator's
    boxes = drawn_by_the_tool(prediction, media, tmp_path)
    wanted = np.clip(np.stack([true_box(frame) for frame in range(FRAMES)]), 0, 1)
    assert np.isnan(boxes[:3]).all() and iou(boxes[3:], wanted[3:]).min() > (1 - 2 * 0.05) ** 2 - 0.1


def test_out_of_sight_ends_a_stretch(media, tmp_path):
    with serving(media) as ask:
        _, answer = ask("/predict", interactive(region(keyframe(0, true_box(0))), video="hidden.mp4"))
    boxes = drawn_by_the_tool(answer["results"][0], media, tmp_path, "hidden.mp4")
    assert np.flatnonzero(np.isnan(boxes).any(axis=1)).tolist() == list(HIDDEN)


def test_a_corrected_frame_is_gone_on_from(media):
    with serving(media, tracker="StillTrackers") as ask:
        _, answer = ask("/predict", interactive(region(keyframe(2, true_box(2)))))
        (first,) = answer["results"][0]["result"]
        (two, last) = first["value"]["sequence"]
        assert (two["frame"], last["frame"]) == (3, FRAMES)
        # unchanged, nothing is drawn by the annotator but the first box: the same again
        _, answer = ask("/predict", interactive(first))
        assert answer["results"][0]["result"][0]["value"]["sequence"] == [two, last]
        # a box corrected at frame 20: what stands before stays, what was predicted after it goes
        moved = {**last, "frame": 20, "x": last["x"] + 30}
        corrected = {
            **first,
            "value": {**first["value"], "sequence": [{**two, "predicted": _copied(two)}, moved, last]},
        }
        _, answer = ask("/predict", interactive(corrected))
        steps = answer["results"][0]["result"][0]["value"]["sequence"]
        assert [step["frame"] for step in steps] == [3, 20, FRAMES]
        assert [round(step["x"] - two["x"], 3) for step in steps] == [0, 30, 30]
        # a second box of the annotator: each holds up to the next
        both = region(keyframe(2, true_box(2)), keyframe(10, true_box(10)))
        _, answer = ask("/predict", interactive(both))
        steps = answer["results"][0]["result"][0]["value"]["sequence"]
        assert [step["frame"] for step in steps] == [3, 10, 11, FRAMES]


def _copied(step):
    return [step[name] for name in ("x", "y", "width", "height")]


def test_a_long_video_is_gone_on_with(media):
    with serving(media, tracker="StillTrackers", max_frames=10) as ask:
        _, answer = ask("/predict", interactive(region(keyframe(0, true_box(0)))))
        (found,) = answer["results"][0]["result"]
        ends = [found["value"]["sequence"][-1]["frame"]]
        for _ in range(3):
            found["value"]["sequence"] = [{**s, "predicted": _copied(s)} for s in found["value"]["sequence"]]
            _, answer = ask("/predict", interactive(found))
            (found,) = answer["results"][0]["result"]
            ends.append(found["value"]["sequence"][-1]["frame"])
        assert ends == [10, 19, 28, FRAMES]


def test_frames_at_another_rate_than_the_files(media):
    """The page counts at the Video tag's rate: 60 frames where the file has 30."""
    with serving(media) as ask:
        box = region(keyframe(0, true_box(0)), frames_count=2 * FRAMES)
        _, answer = ask("/predict", interactive(box))
    steps = answer["results"][0]["result"][0]["value"]["sequence"]
    assert steps[-1]["frame"] == 2 * FRAMES
    for step in steps[1:-1]:
        got = np.array([step["x"], step["y"]]) / 100
        np.testing.assert_allclose(got, true_box(round((step["frame"] - 1) / 2))[:2], atol=0.02)


@pytest.mark.parametrize(
    ("data", "labels", "meta"),
    [
        ({}, ["red_square"], ["red square"]),  # every label of the project is looked for; there is no cat
        ({"phrase": "the red one"}, None, ["the red one"]),  # with several labels a phrase has none
        ({"phrase": "a green one"}, None, None),  # not there: no region
    ],
)
def test_words(media, data, labels, meta):
    task = {"id": 1, "data": {"video": "upload/7/0a1b2c3d-red.mp4", **data}}
    with serving(media) as ask:
        status, answer = ask("/predict", {**PROJECT, "tasks": [task], "params": {}})
    (prediction,) = answer["results"]
    assert status == 200 and len(prediction["result"]) == (meta is not None)
    if meta:
        (found,) = prediction["result"]
        assert found["meta"]["text"] == meta and found["value"].get("labels") == labels
        assert found["value"]["sequence"][0]["frame"] == 1 and found["value"]["sequence"][0]["score"] == 0.7


BROKEN = region(keyframe(0, true_box(0)))


def without(body, *names):
    return {name: value for name, value in body.items() if name not in names}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (interactive(BROKEN, video="../secret.mp4"), "outside the media root"),
        (interactive(BROKEN, video="/etc/passwd"), "outside the media root"),
        (interactive(BROKEN, video="/data/local-files/?d=..%2Fsecret.mp4"), "outside the media root"),
        (interactive(BROKEN, video="link.mp4"), "outside the media root"),
        (interactive(BROKEN, video="upload/7/none.mp4"), "is not below the media root"),
        (interactive(BROKEN, video="http://127.0.0.1:22/x.mp4"), "nothing is fetched"),
        (interactive(BROKEN, video="s3://bucket/x.mp4"), "s3://"),
        (interactive(BROKEN, video="file:///etc/passwd"), "file://"),
        (interactive(BROKEN, video="a\0.mp4"), "zero byte"),
        (interactive(BROKEN, video="note.txt"), "cannot be read"),
        (interactive(BROKEN, video=7), "must be a text"),
        ({**interactive(BROKEN), "label_config": "<View>"}, "no XML"),
        ({**interactive(BROKEN), "label_config": '<!DOCTYPE x [<!ENTITY a "b">]><View/>'}, "DOCTYPE"),
        ({**interactive(BROKEN), "label_config": '<View><Image name="i" value="$i"/></View>'}, "VideoRectangle"),
        (without(interactive(BROKEN), "label_config"), "label_config"),
        (without(interactive(BROKEN), "tasks"), "tasks must be a list"),
        ({**interactive(BROKEN), "tasks": [{"data": {"image": "a.png"}}]}, "has no 'video'"),
        ({**interactive(BROKEN), "params": [1]}, "params must be an object"),
        (interactive(region()), "no keyframe"),
        (interactive(region(keyframe(99, true_box(0)))), "frame must be a number from 1 to 30"),
        (interactive(region({**keyframe(0, true_box(0)), "x": "left"})), "x must be a number"),
        (interactive(region({**keyframe(0, true_box(0)), "width": 0})), "no area inside the frame"),
        (interactive(region({**keyframe(0, true_box(0)), "x": 150})), "no area inside the frame"),
        (interactive(*[BROKEN] * 3), "at most 2"),
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[1]", "must be an object"),
        (b"\xff", "no JSON"),
    ],
)  # fmt: skip
def test_bad_requests(media, body, says):
    with serving(media, max_objects=2) as ask:
        status, answer = ask("/predict", body)
        assert ask("/health")[0] == 200
    assert status == 400 and says in answer["detail"], answer


def test_trackers_that_fail_and_words_without_a_grounder(media):
    with serving(media, tracker="FailingTrackers", grounder=None) as ask:
        status, answer = ask("/predict", interactive(BROKEN))
        assert status == 500 and "RuntimeError: out of memory" in answer["detail"]
        status, answer = ask("/predict", interactive())
        assert status == 400 and "grounder" in answer["detail"]


def test_what_http_refuses(media):
    with serving(media, max_request_mb=0.01, max_waiting=0) as ask:
        assert ask("/predict", b"x" * 20_000)[0] == 413
        assert ask("/predict", b"{}", {"Content-Type": "text/plain"})[0] == 415
        assert ask("/predict", b"{}", {"Content-Length": "-1"})[0] == 411
        assert ask("/train", b"{}")[0] == 404 and ask("/metrics")[0] == 404


def test_credentials(media):
    right = {"Authorization": "Basic " + base64.b64encode(b"ann:p").decode()}
    wrong = {"Authorization": "Basic " + base64.b64encode(b"ann:q").decode()}
    with serving(media, Credentials("ann", "p")) as ask:
        assert [ask("/health", headers=given)[0] for given in (right, wrong, {})] == [200, 401, 401]
    with pytest.raises(ValueError, match="BASIC_AUTH_USER"):
        AnnotationServer(propagator(media, host="0.0.0.0"))
