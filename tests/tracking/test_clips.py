import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing_elysium.frames import even_indices, evenly_spaced_frames, frames_from
from tracking_elysium.clips import Clip, clip_schedule, read_clips
from tracking_elysium.gap_policy import GAP_POLICIES, bridge_gap
from tracking_elysium.options import TrackingOptions
from tracking_elysium.session import clip_schedule as clip_schedule_again

from .oracle import PROCESSOR, video

LENGTHS = st.integers(min_value=0, max_value=300)


@st.composite
def schedules(draw):
    clip_len = draw(st.integers(1, 12))
    return draw(LENGTHS), clip_len, draw(st.integers(0, clip_len - 1)), draw(st.integers(0, 40))


@given(schedules())
def test_every_frame_is_reported_exactly_once(case):
    num_frames, clip_len, overlap, single = case
    clips = clip_schedule(num_frames, clip_len, overlap, single)
    assert [f for clip in clips for f in range(clip.report_from, clip.stop)] == list(range(num_frames))


@given(schedules())
def test_clips_are_full_and_share_what_they_should(case):
    num_frames, clip_len, overlap, single = case
    clips = clip_schedule(num_frames, clip_len, overlap, single)
    for before, after in zip(clips, clips[1:], strict=False):
        assert before.stop - before.start == clip_len  # only the last clip is short
        assert after.report_from - after.start == overlap and after.report_from == before.stop
    assert all(clip.report_from < clip.stop for clip in clips)  # never the shared frames alone
    assert len(clips) <= 1 or num_frames > single


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [
        (0, []),
        (1, [Clip(0, 1, 0)]),
        (32, [Clip(0, 32, 0)]),  # the last length that goes in one piece
        (33, [Clip(0, 8, 0), Clip(7, 15, 8), Clip(14, 22, 15), Clip(21, 29, 22), Clip(28, 33, 29)]),
        (36, [Clip(0, 8, 0), Clip(7, 15, 8), Clip(14, 22, 15), Clip(21, 29, 22), Clip(28, 36, 29)]),
    ],
)
def test_paper_rule(num_frames, expected):
    assert clip_schedule(num_frames) == expected
    assert clip_schedule_again is clip_schedule


def test_no_clip_of_the_overlap_alone():
    # (L - 1) % 7 == 0: the released code adds a clip that holds only the shared frame.
    assert clip_schedule(50)[-1] == Clip(42, 50, 43)
    assert clip_schedule(57)[-1] == Clip(49, 57, 50)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"num_frames": -1}, "num_frames"),
        ({"clip_len": 0}, "clip_len"),
        ({"overlap": 8}, "overlap"),
        ({"overlap": -1}, "overlap"),
        ({"single_pass_up_to": -1}, "single_pass_up_to"),
    ],
)
def test_impossible_schedules_are_errors(options, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        clip_schedule(**{"num_frames": 10, **options})


# --------------------------------------------------------------------------------------------------------------
# reading
# --------------------------------------------------------------------------------------------------------------
class Counting:
    """A source that counts how often each frame is read."""

    def __init__(self, source):
        self.source, self.reads = source, []

    def __getattr__(self, name):
        return getattr(self.source, name)

    def read(self, indices):
        self.reads.extend(indices)
        return self.source.read(indices)


@pytest.mark.parametrize("num_frames", [1, 5, 8, 9, 31, 32, 33, 34, 36, 50, 57])
@pytest.mark.parametrize("options", [{}, {"overlap": 0}, {"overlap": 3}, {"single_pass_up_to": 0}], ids=str)
def test_a_stream_is_cut_like_a_list(num_frames, options):
    options, frames = TrackingOptions(**options), video(num_frames)
    from_list = list(read_clips(PROCESSOR.open_video(frames), 0, False, options))
    from_stream = list(read_clips(PROCESSOR.open_video(iter(frames)), 0, False, options))
    for clips in (from_list, from_stream):
        shapes = [(c.first_step, c.report_from, [f.index for f in c.frames]) for c in clips]
        wanted = clip_schedule(num_frames, options.clip_len, options.overlap, options.single_pass_up_to)
        assert shapes == [(c.start, c.report_from - c.start, list(range(c.start, c.stop))) for c in wanted]
        assert all(f.image[0, 0, 0] == f.index for c in clips for f in c.frames)


def test_each_frame_is_read_once_and_shared_frames_stay_the_same_object():
    source = Counting(PROCESSOR.open_video(video(50)))
    clips = list(read_clips(source, 3, False, TrackingOptions()))
    assert source.reads == list(range(3, 50))
    assert all(a.frames[-1] is b.frames[0] for a, b in zip(clips, clips[1:], strict=False))


def test_backward_clips_run_from_the_start_frame_down():
    clips = list(read_clips(PROCESSOR.open_video(video(60)), 40, True, TrackingOptions()))
    reported = [f.index for c in clips for f in c.frames[c.report_from :]]
    assert reported == list(range(40, -1, -1))
    assert [f.image[0, 0, 0] for f in clips[1].frames] == [f.index for f in clips[1].frames]


def test_a_video_that_breaks_gives_the_frames_so_far():
    class Broken(Counting):
        def read(self, indices):
            return super().read([index for index in indices if index < 19])

    clips = list(read_clips(Broken(PROCESSOR.open_video(video(50))), 0, False, TrackingOptions()))
    assert [f.index for c in clips for f in c.frames[c.report_from :]] == list(range(19))


def test_start_past_the_end_of_a_stream_is_an_error():
    with pytest.raises(ValueError, match="`start_frame`=9 is past the end"):
        list(read_clips(PROCESSOR.open_video(iter(video(5))), 9, False, TrackingOptions()))


# --------------------------------------------------------------------------------------------------------------
# gaps
# --------------------------------------------------------------------------------------------------------------
def test_gap_policies():
    seen = [(2, np.array([0.1, 0.1, 0.2, 0.3])), (4, np.array([0.2, 0.1, 0.3, 0.3]))]
    assert bridge_gap("none", seen, 5) is None
    assert bridge_gap("hold", [], 5) is None
    np.testing.assert_allclose(bridge_gap("hold", seen, 7), [0.2, 0.1, 0.3, 0.3])
    np.testing.assert_allclose(bridge_gap("previous_velocity", seen, 6), [0.3, 0.1, 0.4, 0.3])
    np.testing.assert_allclose(bridge_gap("previous_velocity", seen[:1], 6), [0.1, 0.1, 0.2, 0.3])


@given(st.sampled_from(GAP_POLICIES), st.lists(st.floats(0, 1), min_size=8, max_size=8), st.integers(1, 500))
def test_a_bridged_box_stays_in_the_frame_and_keeps_an_area(policy, numbers, gap):
    def box(values):
        (x1, x2), (y1, y2) = sorted(values[::2]), sorted(values[1::2])
        return np.array([x1, y1, max(x2, x1 + 1e-3), max(y2, y1 + 1e-3)]).clip(0, 1 + 1e-3) / (1 + 1e-3)

    bridged = bridge_gap(policy, [(0, box(numbers[:4])), (1, box(numbers[4:]))], 1 + gap)
    if bridged is None:
        return
    assert (bridged >= 0).all() and (bridged <= 1).all()
    assert (bridged[2:] > bridged[:2]).all()


# --------------------------------------------------------------------------------------------------------------
# sampling for descriptions and questions
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("total", [1, 3, 16, 17, 100, 255])
def test_a_stream_is_sampled_nearly_evenly(total):
    frames = evenly_spaced_frames(PROCESSOR.open_video(iter(video(total))), 16)
    indices = [index for index, _, _ in frames]
    wanted = even_indices(total, 16)
    assert len(indices) == len(wanted)
    assert max(abs(a - b) for a, b in zip(indices, wanted, strict=True)) <= total / 16


def test_frames_from_stops_at_the_end():
    source = PROCESSOR.open_video(video(20))
    assert [index for index, _, _ in frames_from(source, 10, 8, 3)] == [10, 13, 16, 19]
    assert [index for index, _, _ in frames_from(PROCESSOR.open_video(iter(video(20))), 10, 3, 2)] == [10, 12, 14]
