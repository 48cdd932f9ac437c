"""Decoding starts at the right key frame: one too early costs time, one too late costs another attempt.

`PyAVReader` repairs both, so that its frames do not tell; what it reads on the way does.
"""

from types import SimpleNamespace

import av
import numpy as np
import pytest

from processing_elysium.frame_index import FrameIndex, PacketTable
from processing_elysium.pyav_reader import _SEEK_AHEAD, PyAVReader
from tests.processing.tiny_videos import encode, number_of

# Times of presentation in the order of decoding; `k` marks key frames.
CLOSED = "0k 3 1 2 4k 7 5 6 8k 11 9 10"
OPEN = "0k 3 1 2 6k 4 5 9 7 8 12k 10 11"
SHOWN_LATE = "0k 4 1 2 3k 5 6 7"  # frame 4 is shown after the key frame 3 and decoded before it
WITHOUT_START = "0 1 2 3k 4 5"  # cut out of a longer file


def index_of(text: str) -> FrameIndex:
    """The index of a stream of one time unit per frame."""
    words = text.split()
    pts = np.array([int(word.rstrip("k")) for word in words])
    is_key = np.array([word.endswith("k") for word in words])
    numbers, all_shown = np.arange(len(pts)), np.ones(len(pts), bool)
    packets = PacketTable(pts, numbers - 3, numbers * 100, is_key, all_shown, keeps_size=True)
    codec = SimpleNamespace(name="h264", field_order=1)
    stream = SimpleNamespace(time_base=0.04, average_rate=25, guessed_rate=25, codec_context=codec)
    return FrameIndex(packets, stream, "matroska")


@pytest.mark.parametrize(
    ("text", "earlier", "wanted"),
    [
        (CLOSED, 0, [0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8]),
        (CLOSED, 1, [-1, -1, -1, -1, 0, 0, 0, 0, 4, 4, 4, 4]),
        (CLOSED, 2, [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0]),
        (OPEN, 0, [0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 10]),
        (OPEN, 1, [-1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 4]),
        (SHOWN_LATE, 0, [0, 0, 0, 4, 0, 4, 4, 4]),
        (SHOWN_LATE, 1, [-1, -1, -1, 0, -1, 0, 0, 0]),
        (WITHOUT_START, 0, [-1, -1, -1, 3, 3, 3]),
    ],
)
def test_key_packet_of_every_frame(text, earlier, wanted):
    index = index_of(text)
    assert [index.key_packet_before(frame, earlier) for frame in range(index.num_frames)] == wanted


@pytest.mark.parametrize(
    ("text", "is_plain"), [(CLOSED, True), (OPEN, False), (SHOWN_LATE, True), (WITHOUT_START, False)]
)
def test_groups_that_any_reader_gets_right(text, is_plain):
    assert index_of(text).is_plain == is_plain


# --------------------------------------------------------------------------------------------------------------
# what is decoded
# --------------------------------------------------------------------------------------------------------------
GROUP = 12
FILES = {
    "closed.mp4": {"b_frames": 3},
    "closed.mkv": {"b_frames": 3},
    "simple.mp4": {"b_frames": 0},
    "open.mp4": {"params": f"open-gop=1:keyint={GROUP}:bframes=3:b-adapt=0:scenecut=0"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeking")
    return {name: encode(folder / name, count=96, gop=GROUP, **how) for name, how in FILES.items()}


@pytest.fixture
def log(monkeypatch):
    """What a reader does: `("jump", frame, earlier)`, `("start", packet)` and the packets of decoded frames."""
    events = []
    jump, decoded = PyAVReader._jump, PyAVReader._decoded

    def logged_jump(self, index, earlier):
        events.append(("jump", index, earlier))
        jump(self, index, earlier)

    def logged_decoded(self, packets, codec, number):
        events.append(("start", number))
        for item in decoded(self, packets, codec, number):
            events.append(item[0])
            yield item

    monkeypatch.setattr(PyAVReader, "_jump", logged_jump)
    monkeypatch.setattr(PyAVReader, "_decoded", logged_decoded)
    return events


def key_before(path, frame: int) -> int:
    """Packet of the key frame from which a decoder gets `frame`, found in the packets alone."""
    with av.open(str(path)) as container:
        packets = [(p.pts, p.is_keyframe) for p in container.demux(video=0) if p.size]
    asked = sorted(pts for pts, _ in packets)[frame]
    at = [pts for pts, _ in packets].index(asked)
    return max(number for number, (pts, is_key) in enumerate(packets) if is_key and pts <= asked and number <= at)


@pytest.mark.parametrize("name", FILES)
def test_a_jump_decodes_from_the_nearest_key_frame(files, log, name):
    """One attempt, and no frame decoded in vain except those shown before an open group's key frame."""
    reader = PyAVReader(str(files[name]), name)
    for frame in (95, 84, 83, 61, 60, 59, 24, 23, 13):
        log.clear()
        assert [number_of(pixels) for pixels in reader.read([frame])] == [frame]
        key = key_before(files[name], frame)
        assert log[:2] == [("jump", frame, 0), ("start", key)], frame
        first = int(reader.index.frame_of[key])
        in_vain = [number for number in log[2:] if reader.index.frame_of[number] < first]
        assert all(number > key for number in in_vain) and len(in_vain) <= (3 if name == "open.mp4" else 0)
        assert [int(reader.index.frame_of[n]) for n in log[2:] if n not in in_vain] == list(range(first, frame + 1))


@pytest.mark.parametrize("name", FILES)
def test_the_first_group_is_decoded_from_the_beginning(files, log, name, monkeypatch):
    """Without a seek: where that attempt fails there is no earlier one."""
    reader = PyAVReader(str(files[name]), name)
    reader.read([40])
    log.clear()
    monkeypatch.setattr(PyAVReader, "_from_key", lambda self, key: pytest.fail(f"seeks packet {key}"))
    reader.read([5])
    assert log[:2] == [("jump", 5, 0), ("start", 0)] and len(log) == 2 + 6


@pytest.mark.parametrize(
    ("gop", "first", "then", "jumps"),
    [
        (GROUP, 20, 20, False),
        (GROUP, 20, 21, False),
        (GROUP, 20, 20 + _SEEK_AHEAD, False),
        (GROUP, 20, 20 + _SEEK_AHEAD + 1, True),
        (GROUP, 20, 19, True),
        (250, 20, 20 + _SEEK_AHEAD + 1, False),  # no key frame between: going back would decode more
        (70, 20, 20 + _SEEK_AHEAD + 1, False),  # the next key frame is behind frame 69
        (70, 20, 70, True),  # at it
    ],
)
def test_reading_on_or_jumping(tmp_path, log, gop, first, then, jumps):
    path = encode(tmp_path / "a.mp4", count=96, gop=gop)
    reader = PyAVReader(str(path), "a.mp4")
    reader.read([first])
    log.clear()
    assert [number_of(pixels) for pixels in reader.read([then])] == [then]
    wanted = [("jump", then, 0)] if jumps else []
    assert [event for event in log if isinstance(event, tuple) and event[0] == "jump"] == wanted


def test_a_key_frame_at_the_cursor_is_no_reason_to_jump(tmp_path, log):
    """Going back to the frame just read would decode it again."""
    path = encode(tmp_path / "a.mp4", count=96, gop=30, params="scenecut=0:keyint=250")
    reader = PyAVReader(str(path), "a.mp4")
    key = int(reader.index.frame_of[np.flatnonzero(reader.index.packets.is_key)[-1]])
    reader.read([key])
    log.clear()
    assert [number_of(pixels) for pixels in reader.read([key + _SEEK_AHEAD + 1])] == [key + _SEEK_AHEAD + 1]
    assert not any(isinstance(event, tuple) for event in log)


def test_the_second_attempt_begins_one_key_frame_earlier(files, log, monkeypatch):
    """Where the key frame turns out to be none, the one before it serves, then the beginning."""
    monkeypatch.setattr("processing_elysium.pyav_reader._can_start", lambda frame: frame.pts < 3 * GROUP)
    reader = PyAVReader(str(files["simple.mp4"]), "simple.mp4")
    for frame, wanted in ((70, [(70, 0, 60), (70, 1, 48), (70, None, 0)]), (40, [(40, 0, 36), (40, 1, 24)])):
        log.clear()
        assert [number_of(pixels) for pixels in reader.read([frame])] == [frame]
        tuples = [event for event in log if isinstance(event, tuple)]
        assert [(*jump[1:], start[1]) for jump, start in zip(tuples[::2], tuples[1::2], strict=True)] == wanted
