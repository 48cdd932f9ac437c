"""Many sessions side by side, with an answerer that finishes rows in its own order."""

import threading

import pytest

from tracking_elysium.drafted_answering import DraftedAnswerer
from tracking_elysium.options import TrackingOptions
from tracking_elysium.queries import ObjectQuery
from tracking_elysium.scheduling import track_videos
from tracking_elysium.session import TrackingSession
from tracking_elysium.stats import Stats

from .oracle import PROCESSOR, Oracle, fitting_model, moving_box, video

SHORT = TrackingOptions(clip_len=4, single_pass_up_to=0)


class Engine:
    """Answers one row per step: the youngest first, or the oldest."""

    def __init__(self, youngest_first, fails_at=None):
        self.oracle, self.stats, self.waiting, self.tickets = Oracle(), Stats(), [], 0
        self.youngest_first, self.fails_at = youngest_first, fails_at
        self.most_waiting = self.steps = 0

    def submit(self, requests):
        new = list(range(self.tickets, self.tickets + len(requests)))
        self.tickets += len(requests)
        self.waiting.extend(zip(new, requests, strict=True))
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        return new

    def advance(self):
        self.steps += 1
        if self.steps == self.fails_at:
            raise RuntimeError("out of memory")
        ticket, request = self.waiting.pop(-1 if self.youngest_first else 0)
        return [(ticket, self.oracle.answer(request))]

    def so_far(self, tickets):
        return {}


def session(num_frames, objects=1, read_ahead=False):
    queries = [ObjectQuery(id=n, label=str(n), box=tuple(moving_box(0))) for n in range(objects)]
    return TrackingSession(PROCESSOR.open_video(video(num_frames)), PROCESSOR, queries, SHORT, read_ahead)


@pytest.mark.parametrize("youngest_first", [True, False])
@pytest.mark.parametrize("read_ahead", [True, False])
def test_every_frame_of_every_video_comes_once_and_in_order(youngest_first, read_ahead):
    lengths, engine = [20, 1, 9, 5], Engine(youngest_first)
    sessions = (session(length, objects=1 + n % 2, read_ahead=read_ahead) for n, length in enumerate(lengths))
    frames = {position: [] for position in range(len(lengths))}
    for position, result in track_videos(sessions, engine, batch_size=3):
        frames[position].append(result.frame)
        assert len(result.objects) == 1 + position % 2
    assert frames == {position: list(range(length)) for position, length in enumerate(lengths)}
    assert engine.most_waiting <= 3
    assert (engine.stats.frames, engine.stats.boxes) == (35, 20 + 2 + 9 + 10)


def test_a_short_clip_does_not_wait_for_a_long_one():
    """The rows that are done go on: the last video is finished while the first one's first clip is still in work."""
    engine = Engine(youngest_first=True)
    order = [position for position, _ in track_videos([session(4), session(20)], engine, batch_size=2)]
    assert order == [1] * 20 + [0] * 4


@pytest.mark.parametrize("read_ahead", [True, False])
def test_an_error_stops_the_threads_of_all_videos(read_ahead):
    sessions = [session(40, read_ahead=read_ahead) for _ in range(3)]
    with pytest.raises(RuntimeError, match="out of memory"):
        list(track_videos(sessions, Engine(False, fails_at=5), batch_size=3))
    for item in sessions:
        thread = getattr(item._lanes[0]._clips, "_thread", None)
        assert thread is None or not thread.is_alive()


@pytest.mark.parametrize("objects", [1, 2])
def test_frames_encoded_by_the_reading_thread_give_the_same_boxes(objects):
    """The vision tower runs on the next clip while the language model answers; only the reader's thread runs it."""
    model, threads, found = fitting_model(), [], []
    encode = model.model.get_image_features
    model.model.get_image_features = lambda **kwargs: (
        threads.append(threading.current_thread().name) or encode(**kwargs)
    )
    for ahead in (False, True):
        answerer = DraftedAnswerer(model, PROCESSOR, constrained=True)
        answerer.encodes_ahead = ahead
        threads.clear()
        queries = [ObjectQuery(n, str(n), box=tuple(moving_box(0, n))) for n in range(objects)]
        source = PROCESSOR.open_video(video(9))
        item = TrackingSession(source, PROCESSOR, queries, SHORT, read_ahead=True, prepare=answerer.prepare)
        results = [result for _, result in track_videos([item], answerer)]
        found.append([[tuple(thing.box) for thing in result.objects] for result in results])
        assert {name.startswith("elysium-") for name in threads} == {ahead}
    assert found[0] == found[1] and len(found[0]) == 9
