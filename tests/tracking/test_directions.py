"""Backward and both ways: every frame holds every object once."""

import pytest

from .test_pipeline import px, video

LENGTH = 23


@pytest.mark.parametrize("start", [0, 1, 8, LENGTH - 1])
@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
@pytest.mark.parametrize("objects", [1, 2])
@pytest.mark.parametrize("short", [{}, {"clip_len": 4, "overlap": 2, "single_pass_up_to": 0}], ids=["whole", "clips"])
def test_every_frame_holds_every_object_once(pipe, oracle, start, direction, objects, short):
    boxes = [px(start, lane) for lane in range(objects)]
    results = pipe(video(LENGTH), box=boxes, start_frame=start, direction=direction, **short)
    first = 0 if direction != "forward" else start
    last = LENGTH - 1 if direction != "backward" else start
    assert [result["frame"] for result in results] == list(range(first, last + 1))
    for result in results:
        assert [item["id"] for item in result["objects"]] == list(range(objects)), result["frame"]
    assert [item["score"] for item in results[start - first]["objects"]] == [1.0] * objects  # as given
    assert pipe.stats["boxes"] == objects * len(results)
