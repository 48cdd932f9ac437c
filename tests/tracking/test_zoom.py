"""Search windows: geometry, what the session asks, and boxes that come back to the frame."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.modeling.tiny_models import tiny_model
from tests.tracking.oracle import PROCESSOR, SIZE, moving_box, question_of, tiny_pipeline, video
from tracking_elysium.answering import ClipAnswerer
from tracking_elysium.clips import pair_schedule
from tracking_elysium.exchange import ClipAnswer, VideoFrame
from tracking_elysium.frame_encoding import resize
from tracking_elysium.options import TrackingOptions
from tracking_elysium.queries import ObjectQuery
from tracking_elysium.session import TrackingSession
from tracking_elysium.zoom import OUTSIDE, Window, ZoomState, tiles_around, window_around

corner = st.floats(0, 0.8)
side = st.floats(0.02, 0.9)


@given(corner, corner, side, side, st.integers(8, 900), st.integers(8, 900), st.floats(1.5, 8))
@settings(max_examples=200, deadline=None)
def test_windows_hold_the_box_and_map_both_ways(x, y, w, h, width, height, factor):
    box = np.array([x, y, x + w, y + h])
    window = window_around(box, width, height, factor)
    seen = window.from_frame(box, width, height)
    np.testing.assert_allclose(window.to_frame(seen, width, height), box, atol=1e-9)
    px = np.maximum((box[2:] - box[:2]) * [width, height], 1)
    assert window.side >= round(factor * np.sqrt(px.prod())) or window.side >= 12
    # Inside, and centered to the pixel that windows are rounded to.
    assert (seen > -1.5 / window.side).all() and (seen < 1 + 1.5 / window.side).all()
    np.testing.assert_allclose((seen[:2] + seen[2:]) / 2, 0.5, atol=1.0 / window.side)


@pytest.mark.parametrize(
    "window, inside",
    [
        (Window(2, 3, 4), 16),  # within the frame
        (Window(-2, -1, 4), 6),  # over the upper left corner
        (Window(8, 6, 6), 4),  # over the lower right corner
        (Window(-9, 0, 4), 0),  # beside the frame
    ],
)
def test_crops_show_the_frame_and_the_color_outside(window, inside):
    image = np.arange(8 * 10 * 3, dtype=np.uint8).reshape(8, 10, 3)
    crop = window.crop(image)
    assert crop.shape == (window.side, window.side, 3)
    shown = ~(crop == np.array(OUTSIDE, np.uint8)).all(-1)
    assert shown.sum() == inside
    for row, column in zip(*shown.nonzero(), strict=True):
        np.testing.assert_array_equal(crop[row, column], image[row + window.top, column + window.left])


@pytest.mark.parametrize("frames", [0, 1, 2, 5])
def test_schedule_reports_every_frame_once(frames):
    clips = pair_schedule(frames)
    assert [frame for clip in clips for frame in range(clip.report_from, clip.stop)] == list(range(frames))


class Looker:
    """Answers about windows by looking: the object is a bright rectangle in dark frames."""

    def __init__(self, blind=()):
        self.calls, self.blind = [], set(blind)

    def __call__(self, requests):
        if requests:
            self.calls.append(list(requests))
        return [self.answer(request) for request in requests]

    def answer(self, request):
        parts = []
        for number, frame in enumerate(request.frames, start=1):
            bright = (frame.image[..., 0] > 200).nonzero()
            if len(bright[0]) == 0 or frame.index in self.blind:
                parts.append(f"Frame {number}: nothing")
                continue
            height, width = frame.image.shape[:2]
            box = [bright[1].min() / width, bright[0].min() / height]
            box += [(bright[1].max() + 1) / width, (bright[0].max() + 1) / height]
            parts.append(f"Frame {number}: {PROCESSOR.format_box(box)}")
        text = ", ".join(parts)
        digits = sum(char.isdigit() for char in text)
        return ClipAnswer(text, logprobs=[-0.1] * digits, token_of_digit=list(range(digits)))


def scene(num_frames, speed=4, size=(120, 160)):
    """Frames with a bright rectangle, and its boxes in [0, 1]."""
    frames, boxes = [], []
    for number in range(num_frames):
        image = np.zeros((*size, 3), np.uint8)
        left, top = 10 + speed * number, 30 + number
        image[top : top + 12, left : left + 20] = 255
        frames.append(image)
        boxes.append(np.array([left, top, left + 20, top + 12]) / [size[1], size[0], size[1], size[0]])
    return frames, boxes


def run(source, queries, answer, **options):
    session = TrackingSession(PROCESSOR.open_video(source), PROCESSOR, queries, TrackingOptions(zoom=True, **options))
    results = []
    while not session.done:
        results += session.accept(answer(session.pending()))
    return results


@pytest.mark.parametrize("stream", [False, True], ids=["list", "stream"])
def test_a_box_is_followed_through_windows(stream):
    frames, boxes = scene(20)
    looker = Looker()
    results = run(iter(frames) if stream else frames, [ObjectQuery(0, "it", box=tuple(boxes[0]))], looker)
    assert [result.frame for result in results] == list(range(20))
    for result, box in zip(results, boxes, strict=True):
        # A cell of the window is 0.04 of the object's size, whatever the size of the frame.
        np.testing.assert_allclose(result.objects[0].box, box, atol=0.006)
    asked = [request for call in looker.calls for request in call]
    assert len(asked) == 19  # nothing is asked of the frame whose box is given
    for request in asked:
        template, searched = request.frames
        assert template.index == 0 and template.reference is template
        assert searched.reference is template
        assert searched.image.shape[0] == searched.image.shape[1] > template.image.shape[0]
        np.testing.assert_array_equal(searched.reference_box, template.reference_box)
    assert len({id(request.frames[0]) for request in asked}) == 1  # encoded once


def test_words_are_found_in_the_whole_frame_first():
    frames, boxes = scene(6)
    looker = Looker()
    results = run(frames, [ObjectQuery(0, "it", expression="the bright one")], looker)
    first = looker.calls[0][0]
    assert len(first.frames) == 1 and first.frames[0].image.shape == frames[0].shape
    assert "the bright one" in question_of(first)
    assert all("the bright one" not in question_of(request) for call in looker.calls[1:] for request in call)
    np.testing.assert_allclose(results[-1].objects[0].box, boxes[-1], atol=0.01)


def test_several_objects_each_in_a_window():
    frames, boxes = scene(5)
    queries = [ObjectQuery(0, "a", box=tuple(boxes[0])), ObjectQuery(1, "b", expression="the other")]
    looker = Looker()
    results = run(frames, queries, looker)
    assert [len(call) for call in looker.calls] == [1, 2, 2, 2, 2]  # the words first; then both
    assert all(len(result.objects) == 2 for result in results)
    np.testing.assert_allclose(results[-1].objects[1].box, boxes[-1], atol=0.01)


def test_a_lost_object_is_looked_for_in_wider_windows_and_found_again():
    frames, boxes = scene(12, speed=2)
    looker = Looker(blind=(4, 5, 6))
    results = run(frames, [ObjectQuery(0, "it", box=tuple(boxes[0]))], looker)
    sides = [call[0].frames[1].image.shape[0] for call in looker.calls]  # of frames 1 to 11
    assert sides[3] < sides[4] < sides[5] < sides[6]
    assert sides[8] == sides[2]
    for lost in (4, 5, 6):
        np.testing.assert_allclose(results[lost].objects[0].box, results[3].objects[0].box)
        assert results[lost].objects[0].score == 0
    np.testing.assert_allclose(results[-1].objects[0].box, boxes[-1], atol=0.01)


def test_fast_objects_get_wider_windows():
    state, whole = ZoomState(4.0), Window(0, 0, 100)
    box = np.array([0.4, 0.4, 0.5, 0.5])
    state.note(whole, box, box + 0.01, (100, 100))
    assert state.factor == 4.0
    state.note(whole, box, box + 0.2, (100, 100))
    assert 4.0 < state.factor <= 8.0


@pytest.mark.parametrize("box", [[0.4, 0.4, 0.5, 0.5], [0.0, 0.0, 0.02, 0.02], [0.1, 0.1, 0.9, 0.9]])
@pytest.mark.parametrize("size", [(160, 120), (40, 300), (13, 9)])
def test_tiles_cover_the_frame_nearest_first(box, size):
    tiles = tiles_around(np.array(box), *size, 4.0)
    seen = np.zeros((size[1], size[0]), bool)
    for tile in tiles:
        seen[max(tile.top, 0) : tile.top + tile.side, max(tile.left, 0) : tile.left + tile.side] = True
    # All but the last half of a tile, which no object that fills a fourth of it can hide in.
    margin = tiles[0].side // 2
    assert seen[: size[1] - margin or None, : size[0] - margin or None].all()
    assert len(tiles) <= 12 * 12
    center = (np.array(box[:2]) + box[2:]) / 2 * size
    distances = [np.hypot(t.left + t.side // 2 - center[0], t.top + t.side // 2 - center[1]) for t in tiles]
    assert distances == sorted(distances)


def jumping(num_frames, gone):
    """The object stays, is gone for some frames, and is back in the other corner of the frame."""
    frames, boxes = [], []
    for number in range(num_frames):
        image = np.zeros((120, 160, 3), np.uint8)
        left, top = (10, 10) if number < gone[0] else (130, 95)
        if number not in range(*gone):
            image[top : top + 12, left : left + 20] = 255
        frames.append(image)
        boxes.append(np.array([left, top, left + 20, top + 12]) / [160, 120, 160, 120])
    return frames, boxes


class Chooser(Looker):
    """Says `[]` where it sees nothing, with a probability for it; `doubt` is that where it sees the object."""

    def __init__(self, doubt=0.01):
        super().__init__()
        self.doubt = doubt

    def answer(self, request):
        said = super().answer(request)
        gone = "Frame 2: nothing" in said.text
        said.absent_logprobs = {1: math.log(0.99 if gone else self.doubt)}
        said.text = said.text.replace("nothing", "[]")
        return said


def test_an_object_that_comes_back_elsewhere_is_found_again():
    frames, boxes = jumping(40, (3, 6))
    results = run(frames, [ObjectQuery(0, "it", box=tuple(boxes[0]))], Chooser(), gap_policy="hold")
    found = [result.objects[0].present for result in results]
    assert found[:3] == [True] * 3 and not any(found[3:10]) and all(found[-5:])
    for result, box in zip(results, boxes, strict=True):
        item = result.objects[0]
        if item.present:
            np.testing.assert_allclose(item.box, box, atol=0.01)
            assert item.presence is None or item.presence == pytest.approx(0.99)  # of the given box none is known
        else:
            np.testing.assert_allclose(item.box, boxes[0], atol=0.01)  # held
            assert item.score == 0.0 and item.presence == pytest.approx(0.01)


@pytest.mark.parametrize("answer", [Looker(), Chooser(doubt=0.3)], ids=["no choice", "unsure"])
def test_nothing_is_found_elsewhere_without_certainty(answer):
    frames, boxes = jumping(40, (3, 6))
    results = run(frames, [ObjectQuery(0, "it", box=tuple(boxes[0]))], answer, gap_policy="hold")
    assert not any(result.objects[0].present for result in results[3:])


def test_results_say_whether_the_object_is_there():
    frames, boxes = jumping(6, (3, 6))
    results = run(frames, [ObjectQuery(0, "it", box=tuple(boxes[0]))], Chooser(), gap_policy="hold")
    first, seen, gone = (results[n].to_dict(160, 120)["objects"][0] for n in (0, 1, 3))
    assert list(first) == ["id", "label", "score", "present", "box"] and first["present"] is True
    assert list(seen) == ["id", "label", "score", "present", "presence", "box"] and seen["present"] is True
    assert gone["present"] is False and gone["presence"] == pytest.approx(0.01)


def test_backward_and_both_directions():
    frames, boxes = scene(9)
    query = ObjectQuery(0, "it", box=tuple(boxes[4]), start_frame=4, direction="both")
    results = sorted(run(frames, [query], Looker()), key=lambda result: result.frame)
    assert [result.frame for result in results] == list(range(9))
    assert all(len(result.objects) == 1 for result in results)
    for result, box in zip(results, boxes, strict=True):
        np.testing.assert_allclose(result.objects[0].box, box, atol=0.01)


@pytest.mark.parametrize("value", [0, 1.1, 21, "4", True, float("nan")])
def test_wrong_factors(value):
    with pytest.raises(ValueError, match="zoom_factor"):
        TrackingOptions(zoom_factor=value)


@pytest.mark.parametrize("reference", [False, True], ids=["plain", "reference"])
def test_fast_and_slow_decoding_agree(reference):
    """The drafted and the plain answerer give the same boxes through windows, for models of both kinds."""
    more = {"reference_similarity": True, "selector_scorer": "mlp"} if reference else {}
    pipe = tiny_pipeline(**more)
    frames = video(6)
    boxes = [tuple(moving_box(0, lane) * [SIZE[1], SIZE[0], SIZE[1], SIZE[0]]) for lane in (0, 1)]
    plain, drafted = (pipe(frames, box=boxes, zoom=True, decoding=decoding) for decoding in ("plain", "drafted"))
    assert plain == [
        {**frame, "objects": [{**item, "score": pytest.approx(item["score"], abs=1e-4)} for item in frame["objects"]]}
        for frame in drafted
    ]
    assert len(plain) == 6


def test_references_reach_the_model():
    """Features of a window depend on its template where the model says so, and are those of one call with both."""
    model = tiny_pipeline(reference_similarity=True, selector_scorer="mlp").model
    answerer = ClipAnswerer(model, PROCESSOR)
    rng = np.random.default_rng(0)
    template, searched, whole = (
        VideoFrame(n, None, rng.integers(0, 255, (30, 30, 3), dtype=np.uint8)) for n in range(3)
    )
    template.reference = searched.reference = template
    template.reference_box = searched.reference_box = np.array([0.2, 0.2, 0.8, 0.8])
    answerer.encode_frames([template, searched, whole])
    again = [VideoFrame(0, None, frame.image) for frame in (template, searched, whole)]
    resize(again, PROCESSOR)
    pixels = torch.stack([frame.pixels for frame in again])
    boxes = torch.tensor([[0.2, 0.2, 0.8, 0.8]] * 2 + [[float("nan")] * 4])
    with torch.no_grad():
        expected = model.model.get_image_features(pixels, torch.tensor([0, 0, 2]), boxes).pooler_output
    for frame, tokens in zip((template, searched, whole), expected, strict=True):
        torch.testing.assert_close(frame.features, tokens)
    assert template.patches is not None and searched.patches is None
    late = VideoFrame(5, None, searched.image, reference=template, reference_box=template.reference_box)
    answerer.encode_frames([late])  # the template is not encoded again
    torch.testing.assert_close(late.features, searched.features)


def test_released_models_do_not_have_it():
    config = tiny_model().config
    assert not (config.reference_similarity or config.patch_position_embedding or config.vision_feature_norm)
    assert not TrackingOptions().zoom
