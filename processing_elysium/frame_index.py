"""Which packet of a video file becomes which frame, and when it is shown: an exact index, made without decoding.

One pass over the packets (demuxing) gives times, key frames and what an edit list hides. Shown frames are the packets
in the order of their presentation times. Where a file does not say enough for that (no times, or the same time twice),
the order is what a decoder gives from the beginning: `FrameIndex.by_decoding`. P packets, F frames.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

try:
    import av
except ImportError:  # pragma: no cover - without PyAV there is no index, and decord reads unchecked
    av = None  # type: ignore[assignment]

NO_TIME = np.iinfo(np.int64).min
_FORMATS_WITH_TIMES = ("mov", "matroska")  # these store the time of presentation of every packet
_FAST_CODECS = ("h264", "hevc")  # of these a change of the frame size can be seen in the packets
_SPS_TYPES = {"h264": 7, "hevc": 33}
_PROGRESSIVE = 1  # FFmpeg's number; fields (higher numbers) may come in packets of their own
_HEADER_BYTES = 4096  # parameter sets stand at the beginning of a key packet


@dataclass
class PacketTable:
    """The packets of one video stream that hold data, in the order of decoding.

    Attributes:
        pts: (P,) times of presentation in units of the stream's time base, `NO_TIME` where the file is silent.
        dts: (P,) times of decoding, likewise.
        position: (P,) bytes from the beginning of the file, -1 where unknown.
        is_key: (P,) whether decoding can begin here.
        is_shown: (P,) whether the frame is shown, or decoded for others only (before the start of an edit list).
        keeps_size: False where headers in the stream change on the way, and perhaps the frame size with them.
    """

    pts: np.ndarray
    dts: np.ndarray
    position: np.ndarray
    is_key: np.ndarray
    is_shown: np.ndarray
    keeps_size: bool

    def find(self, packet: Any) -> int:
        """Return the number of a packet that was read after a seek; -1 when it can not be told for certain."""
        for known, value in ((self.dts, packet.dts), (self.pts, packet.pts), (self.position, packet.pos)):
            if value is not None:
                same = np.flatnonzero(known == value)
                if len(same) == 1:
                    return int(same[0])
        return -1

    def matches(self, number: int, packet: Any) -> bool:
        """Return whether `packet` can be the packet of that number."""
        if number >= len(self.dts):
            return False
        return packet.dts is None or self.dts[number] in (NO_TIME, packet.dts)


class _Recorder:
    """Collects the packets of one stream while a file is demuxed."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._times, self._flags = array("q"), bytearray()
        context = stream.codec_context
        self._codec, self._extradata = context.name, bytes(context.extradata or b"")
        self._headers: set[bytes] = set()
        self._new_header = False

    def add(self, packet: Any) -> None:
        pts, dts, position, is_key = packet.pts, packet.dts, packet.pos, packet.is_keyframe
        self._times.append(NO_TIME if pts is None else pts)
        self._times.append(NO_TIME if dts is None else dts)
        self._times.append(-1 if position is None else position)
        self._flags.append(is_key | (not packet.is_discard) << 1)
        if is_key and self._codec in _SPS_TYPES:
            self._new_header |= len(self._flags) > 1 and packet.has_sidedata("new_extradata")
            self._headers.update(_sequence_headers(packet, self._codec, self._extradata))

    def table(self) -> PacketTable:
        times = np.frombuffer(self._times, np.int64).reshape(-1, 3)
        flags = np.frombuffer(bytes(self._flags), np.uint8)
        pts, dts, position = (np.ascontiguousarray(column) for column in times.T)
        own = {sps for sps in self._headers if sps not in self._extradata}
        keeps_size = not self._new_header and (not own or (len(self._headers) == 1 and len(self._extradata) == 0))
        return PacketTable(pts, dts, position, flags & 1 > 0, flags & 2 > 0, keeps_size)


def _sequence_headers(packet: Any, codec: str, extradata: bytes) -> Iterator[bytes]:
    """The sequence parameter sets (they hold the frame size) in a packet of H.264 or HEVC."""
    data = bytes(packet)[:_HEADER_BYTES]
    if extradata[:1] == b"\x01":  # mp4 and Matroska: units with their length before them
        size, units, start = 4, [], 0
        while start + size < len(data):
            length = int.from_bytes(data[start : start + size], "big")
            units.append(data[start + size : start + size + length])
            start += size + length
    else:
        units = data.split(b"\0\0\1")[1:]
    for unit in units:
        kind = (unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63) if unit else -1
        if kind == _SPS_TYPES[codec]:
            yield unit.rstrip(b"\0")


def read_packets(container: Any, streams: list[Any]) -> tuple[list[PacketTable], str | None]:
    """Demux a file once.

    Args:
        container: an open PyAV container, at its beginning.
        streams: the video streams of interest.

    Returns:
        One table per stream, and what ended the file early, or None.
    """
    recorders = {stream.index: _Recorder(stream) for stream in streams}
    problem = None
    try:
        for packet in container.demux(streams):
            if packet.size:
                recorders[packet.stream_index].add(packet)
    except av.error.FFmpegError as error:
        problem = error.strerror or str(error)
    return [recorder.table() for recorder in recorders.values()], problem


class FrameIndex:
    """The frames of a video in the order in which they are shown.

    Attributes:
        packets: the packets of the stream.
        order: (F,) for every frame the number of its packet.
        frame_of: (P,) for every packet the number of its frame, -1 for one that is not shown.
        seconds: (F,) from the first frame to each, ascending.
        may_be_cut: whether the format has no end, so that a piece of a file is a file and its last frame may be half.
        is_plain: whether frames can be told by their times alone, also after a jump to any key frame.
        is_numbered: False where one packet gives several frames, so that frames can only be counted.
        problem: what ended the file early, or None.
    """

    def __init__(self, packets: PacketTable, stream: Any, format_name: str, problem: str | None = None) -> None:
        """Order the packets by their times of presentation.

        Args:
            packets: what `read_packets` found.
            stream: the stream that they belong to.
            format_name: the container's format, as FFmpeg calls it.
            problem: what ended the file early.
        """
        self.packets, self.problem = packets, problem
        self._seconds_per_unit = float(stream.time_base)
        self._rate = stream.average_rate or stream.guessed_rate or 25
        stores_times = format_name.startswith(_FORMATS_WITH_TIMES)
        self._pts, self._dts = (packets.pts, packets.dts) if stores_times else _without_jumps(packets)
        shown = np.flatnonzero(packets.is_shown)
        pts = self._pts[shown]
        self.is_doubtful = bool((pts == NO_TIME).any()) or len(np.unique(pts)) < len(pts)
        order = shown if (pts == NO_TIME).any() else shown[np.argsort(pts, kind="stable")]
        self._set_order(order)
        self.may_be_cut = not stores_times
        self.is_plain = (
            stores_times
            and not self.is_doubtful
            and packets.keeps_size
            and stream.codec_context.name in _FAST_CODECS
            and stream.codec_context.field_order <= _PROGRESSIVE
            and bool(packets.is_shown.all())
            and self._groups_are_closed()
        )

    def _set_order(self, order: np.ndarray) -> None:
        self.order = order
        self.frame_of = np.full(len(self.packets.pts), -1, np.int64)
        self.frame_of[order] = np.arange(len(order))
        self.is_numbered = len(np.unique(order)) == len(order)
        self.seconds = self._presentation_seconds()
        keys = order[self.packets.is_key[order]]
        self._key_frames, self._key_packets = self.frame_of[keys], keys

    @property
    def num_frames(self) -> int:
        """F."""
        return len(self.order)

    def replace_order(self, decoded: list[int], problem: str | None) -> None:
        """Take the order in which a decoder gave the frames, as packet numbers, for the whole file."""
        self.is_doubtful = self.is_plain = False
        self.problem = self.problem or problem
        self._set_order(np.asarray(decoded, np.int64))

    def agrees(self, decoded: list[int]) -> bool:
        """Compare the order with the first frames that a decoder gave.

        A file that was cut out of a longer one may begin with frames that refer to what is gone; they are not shown,
        and leave the order here.
        """
        if self.is_doubtful or not decoded:
            return not self.is_doubtful
        keys = np.flatnonzero(self.packets.is_key)
        first_key = self.frame_of[keys[0]] if len(keys) else 0
        skipped = np.setdiff1d(self.order[: max(first_key, 0)], decoded, assume_unique=True)
        order = self.order[~np.isin(self.order, skipped)]
        if order[: len(decoded)].tolist() != decoded:
            return False
        if len(skipped):
            self.is_plain = False
            self._set_order(order)
        return True

    def end_with(self, decoded: list[int]) -> None:
        """Leave out the last frames of a file that a decoder does not give.

        Args:
            decoded: packets of the frames that it gives from some key frame on; those before it stay.
        """
        kept = np.isin(self.order, decoded)
        if kept.any() and not kept.all():
            kept[: int(np.argmax(kept))] = True
            self._set_order(self.order[kept])

    def key_packet_before(self, frame: int, earlier: int = 0) -> int:
        """Return the packet where decoding has to begin for `frame` to come out right; -1: at the beginning.

        The frames that follow a key frame in both orders never refer to what is before it. Those that are shown before
        but decoded after it (open groups of pictures) do, and need the key frame before.

        Args:
            frame: number of the frame.
            earlier: so many key frames further to the front.
        """
        number = int(np.searchsorted(self._key_frames, frame, side="right")) - 1
        while number >= 0 and self._key_packets[number] > self.order[frame]:
            number -= 1
        number -= earlier
        return int(self._key_packets[number]) if number >= 0 else -1

    def _groups_are_closed(self) -> bool:
        """Tell whether decoding begins at a key frame, and none is shown before a key frame but decoded after it."""
        is_key = self.packets.is_key
        if not len(is_key) or not is_key[0]:
            return False
        earliest_to_come = np.minimum.accumulate(self._pts[::-1])[::-1]
        return bool((earliest_to_come[is_key] == self._pts[is_key]).all())

    def _presentation_seconds(self) -> np.ndarray:
        """Times of presentation; times of decoding where those are missing; else by the frame rate."""
        for times in (self._pts, self._dts):
            known = times[self.order]
            if len(known) and not (known == NO_TIME).any():
                known = np.sort(known)  # AVI notes times in the order of decoding
                return (known - known[0]) * self._seconds_per_unit
        return np.arange(len(self.order)) / float(self._rate)


def _without_jumps(packets: PacketTable) -> tuple[np.ndarray, np.ndarray]:
    """Times that go on where the clock of a stream was set back (joined or wrapped transport streams)."""
    pts, dts = packets.pts.copy(), packets.dts.copy()
    known = np.flatnonzero(dts != NO_TIME)
    steps = np.diff(dts[known])
    usual = int(np.median(steps[steps > 0])) if (steps > 0).any() else 1
    for before in np.flatnonzero(steps < 0):
        later = known[before + 1]
        shift = usual - steps[before]
        for times in (pts, dts):
            times[later:][times[later:] != NO_TIME] += shift
    return pts, dts
