"""Frames of a video file through PyAV: exact for every container, because frames are told by their packets.

Before a packet is decoded, its number takes the place of its time of presentation. The decoder hands that on to the
frame, so that every frame says which packet it comes from, whatever the file says of times. `FrameIndex` knows which
frame that is.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from .frame_index import FrameIndex, PacketTable, read_packets

try:
    import av
except ImportError:  # pragma: no cover - files are then left to decord
    av = None  # type: ignore[assignment]

_SEEK_AHEAD = 48  # frames; decoding this many onwards is cheaper than a seek to a key frame
_CHECKED_FRAMES = 32  # frames at the beginning whose order is compared with the index
_PLAYLISTS = (b"#EXTM3U", b"<MPD", b"ffconcat")
# A file can name other files or addresses; only the one that was passed is opened.
_OPTIONS = {"protocol_whitelist": "file"}
_ADDRESS_OPTIONS = {"rtsp_transport": "tcp"}
_ACCOUNT = re.compile(r"(://)[^/@]*@")  # name and password in an address


def frames_of_address(address: str, open_timeout: float = 20.0) -> tuple[Iterator[np.ndarray], float | None]:
    """Connect to what sends pictures as they are taken: RTSP, RTMP, UDP, TCP, SRT.

    Args:
        address: `rtsp://user:password@host/path` or likewise. RTSP is asked to come by TCP, which loses no packet.
        open_timeout: seconds that the connection may take.

    Returns:
        Upright uint8 RGB frames (H, W, 3) as they come, until the sender ends, and frames per second if it says so.
        Packets that are damaged are passed over.

    Raises:
        ValueError: no connection, or no pictures.
    """
    shown = _ACCOUNT.sub(r"\1", address)  # a message may be logged
    if av is None:
        raise ValueError(f"`video`={shown!r} needs PyAV; install it with `pip install av`.")
    try:
        container = av.open(address, options=dict(_ADDRESS_OPTIONS), timeout=(open_timeout, None))
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"`video`={shown!r} gives no connection ({reason}); check address and network.") from None
    if not container.streams.video:
        container.close()
        raise ValueError(f"`video`={shown!r} sends no pictures; pass the address of a camera.")
    rate = container.streams.video[0].average_rate
    return _as_they_come(container), float(rate) if rate else None


def _as_they_come(container: Any) -> Iterator[np.ndarray]:
    with container:
        for packet in container.demux(container.streams.video[0]):
            with contextlib.suppress(av.error.InvalidDataError):
                yield from map(_upright, packet.decode())


class PyAVReader:
    """Frames by index.

    Attributes:
        index: what is known of the packets and frames.
        width: of a frame as it is shown, in pixels.
        height: likewise.
        fps: average frames per second, None when unknown.
        num_frames: frames that can be read, as far as known.
        problem: why the file ends early, or None.
        is_plain: whether any exact reader gives the same frames, see `FrameIndex.is_plain`.
    """

    def __init__(self, data: str | bytes, name: str) -> None:
        """Build the index and decode the first frame.

        Args:
            data: a path, or the bytes of a file.
            name: what to call it in messages.

        Raises:
            ValueError: the file is no video, or has no moving pictures.
        """
        self._data, self._name = data, name
        self._size: tuple[int, int] | None = None  # of a frame as it is stored
        self._frames: Iterator[tuple[int, Any]] | None = None
        self._last: Any = None  # the frame at the cursor
        self._cursor, self._started_at, self._first_sure = -1, -1, 0
        self._can_seek, self._size_changed = True, False
        self.problem: str | None = None
        self._container = _open_container(data, name)
        self._build_index()
        self.problem = self.index.problem
        self.num_frames = self.index.num_frames
        self.height = self.width = 0
        first = self._frame_at(0)
        if first is not None:
            self.height, self.width = _upright(first).shape[:2]
        self.is_plain = (
            self.index.is_plain and self._is_alone and self.problem is None and not _is_turned(_display_matrix(first))
        )

    # ----------------------------------------------------------------------------------------------------------
    # the index
    # ----------------------------------------------------------------------------------------------------------
    def _build_index(self) -> None:
        container = self._container
        candidates = _moving_streams(container, self._name)
        tables, problem = read_packets(container, candidates)
        counts = [int(table.is_shown.sum()) for table in tables]
        best = next((n for n, count in enumerate(counts) if count > 1), 0)
        stream, packets = candidates[best], tables[best]
        self._stream_index, self._is_alone = stream.index, len(container.streams.video) == 1
        rate = stream.average_rate or stream.guessed_rate
        self.fps = float(rate) if rate else None
        if problem is None:
            problem = _truncation(container, stream, packets)
        self.index = FrameIndex(packets, stream, container.format.name, problem)
        if not self.index.is_plain:
            self._check_by_decoding()

    def _check_by_decoding(self) -> None:
        """Compare the index with what a decoder gives at the beginning, and at the end of files that may be cut."""
        head = [number for number, _ in itertools.islice(self._from_beginning(), _CHECKED_FRAMES)]
        if not self.index.agrees(head):
            self.problem = None
            self.index.replace_order([number for number, _ in self._from_beginning()], self.problem)
        elif self.index.may_be_cut and self.index.num_frames > len(head):
            key = self.index.key_packet_before(self.index.num_frames - 1)
            frames = self._from_key(key) if key > 0 else None
            if frames is not None:
                self.index.end_with([number for number, _ in frames])

    def _count_by_decoding(self) -> None:
        """Let a decoder tell, where the index was wrong: some packet gives no frame, or another than it says."""
        decoded = [number for number, _ in self._from_beginning()]
        self.index.replace_order(decoded, self.problem)
        self.num_frames = self.index.num_frames
        self._frames = None

    # ----------------------------------------------------------------------------------------------------------
    # reading
    # ----------------------------------------------------------------------------------------------------------
    def read(self, indices: list[int]) -> list[np.ndarray]:
        """Return (H, W, 3) uint8 RGB frames; fewer if the file ends or breaks, with `problem` and `num_frames` set."""
        frames: list[np.ndarray] = []
        for index in indices:
            frame = self._frame_at(index)
            if frame is None:
                break
            frames.append(_upright(frame))
        return frames

    def _frame_at(self, index: int) -> Any:
        """Return the decoded frame `index`, or None."""
        if index == self._cursor:
            return self._last
        for rebuilt in (False, True):
            if index >= self.num_frames:
                return None
            for earlier in (0, 1, None):  # the key frame before, one more to the front, the beginning
                if self._must_jump(index) or earlier != 0:
                    self.problem = self.index.problem
                    self._jump(index, earlier)
                from_beginning = self._started_at < 0
                frame = self._decode_up_to(index)
                if frame is not None:
                    return frame
                if from_beginning or self._size_changed:
                    break
            if self.problem != self.index.problem or rebuilt:
                break
            self._count_by_decoding()
        self.num_frames = min(self._cursor + 1, index)
        return None

    def _decode_up_to(self, index: int) -> Any:
        """Decode on until frame `index` comes; None where one before it is missing, too, since others may be."""
        for number, frame in self._frames or ():
            at = int(self.index.frame_of[number]) if self.index.is_numbered else self._cursor + 1
            if at < 0 or (at < self._first_sure and self._cursor < 0):
                continue  # shown before the key frame from which we started: it may refer to what was not decoded
            expected = self._first_sure if self._cursor < 0 else self._cursor + 1
            if at != expected or (at == self._first_sure and self._started_at >= 0 and not _can_start(frame)):
                break
            if (frame.width, frame.height) != (self._size or (frame.width, frame.height)):
                self.problem = f"the frame size changes to {frame.width} x {frame.height}"
                self._size_changed = True
                break
            self._size, self._cursor, self._last = (frame.width, frame.height), at, frame
            if at == index:
                return frame
        self._frames = None
        return None

    def _must_jump(self, index: int) -> bool:
        if self._frames is None or index <= self._cursor:
            return True
        if index <= self._cursor + _SEEK_AHEAD or not (self._can_seek and self.index.is_numbered):
            return False
        key = self.index.key_packet_before(index)
        return key >= 0 and int(self.index.frame_of[key]) > self._cursor

    def _jump(self, index: int, earlier: int | None) -> None:
        """Be ready to decode from a key frame before `index`, or from the beginning (`earlier` None)."""
        self._cursor, self._started_at, self._first_sure, self._size_changed = -1, -1, 0, False
        self._last = None
        seeks = self._can_seek and self.index.is_numbered
        key = -1 if earlier is None or not seeks else self.index.key_packet_before(index, earlier)
        if key >= 0 and self.index.frame_of[key] > 0:
            self._frames = self._from_key(key)
            if self._frames is not None:
                self._started_at, self._first_sure = key, int(self.index.frame_of[key])
                return
        self._frames = self._from_beginning()

    # ----------------------------------------------------------------------------------------------------------
    # decoding
    # ----------------------------------------------------------------------------------------------------------
    def _from_beginning(self) -> Iterator[tuple[int, Any]]:
        """Yield (number of the packet, frame) for all that a decoder shows, the file opened anew."""
        self.close()
        self._container = _open_container(self._data, self._name)
        stream = self._container.streams[self._stream_index]
        return self._decoded(self._container.demux(stream), stream.codec_context, 0)

    def _from_key(self, key: int) -> Iterator[tuple[int, Any]] | None:
        """Return the same from a key frame on, or one before it; None where the container does not find it."""
        if self._container is None:
            self._container = _open_container(self._data, self._name)
        stream, table = self._container.streams[self._stream_index], self.index.packets
        for time in dict.fromkeys((int(table.pts[key]), int(table.dts[key]))):
            with contextlib.suppress(av.error.FFmpegError, OSError, OverflowError):  # not every format can seek
                self._container.seek(time, stream=stream, backward=True)
                packets = self._container.demux(stream)
                first = next((packet for packet in packets if packet.size), None)
                number = -1 if first is None else table.find(first)
                if 0 <= number <= key:
                    rest = itertools.chain([first], packets)
                    return self._decoded(rest, stream.codec_context, number)
        self._can_seek = False
        return None

    def _decoded(self, packets: Any, codec: Any, number: int) -> Iterator[tuple[int, Any]]:
        """Decode packets, of which the first has the number `number`."""
        table, began, shown = self.index.packets, number == 0, -1
        try:
            for packet in packets:
                if not packet.size:
                    continue
                if not table.matches(number, packet):
                    self._can_seek = False  # the file tells other times after a jump
                    return
                began = began or bool(table.is_key[number])
                if began:
                    packet.pts = number
                    try:
                        frames = codec.decode(packet)
                    except av.error.FFmpegError:
                        if shown >= 0 or table.is_key[: number + 1].any():
                            raise
                        frames = []  # cut out of a longer file: nothing to see before the first key frame
                    for frame in frames:
                        shown = frame.pts if frame.pts is not None else shown + 1
                        yield shown, frame
                number += 1
            for frame in codec.decode(None):
                shown = frame.pts if frame.pts is not None else shown + 1
                yield shown, frame
        except av.error.FFmpegError as error:
            self.problem = self.problem or error.strerror or str(error)

    def close(self) -> None:
        """Free the container; it is opened again when frames are read."""
        self._frames = self._last = None
        self._cursor = -1
        if self._container is not None:
            self._container.close()
        self._container = None


def _can_start(frame: Any) -> bool:
    """Return whether a frame refers to no other; some files call frames key frames that are none."""
    return bool(frame.key_frame) or frame.pict_type == av.video.frame.PictureType.I


def _open_container(data: str | bytes, name: str) -> Any:
    """Open a file with pictures or sound, or raise the ValueError that says what it is instead."""
    if isinstance(data, bytes):
        start = data[:256]
    else:
        with open(data, "rb") as file:
            start = file.read(256)
    if any(start.lstrip(b"\xef\xbb\xbf\r\n ").startswith(mark) or b"\n" + mark in start for mark in _PLAYLISTS):
        raise ValueError(
            f"`video`={name!r} is a playlist (as of HLS or DASH) and not a video; pass the path of a video file, "
            "which `ffmpeg -i PLAYLIST -c copy video.mp4` makes of it."
        )
    reason = "no picture or sound found in it"
    try:
        # An absolute path is never taken for an address, whatever colons there are in a file's name.
        source = io.BytesIO(data) if isinstance(data, bytes) else os.path.abspath(data)
        container = av.open(source, options=_OPTIONS)
    except (av.error.FFmpegError, ValueError, OSError) as error:
        container, reason = None, getattr(error, "strerror", None) or str(error)
    if container is None or not (container.streams.video or container.streams.audio):
        raise ValueError(
            f"`video`={name!r} is not a video that can be decoded ({reason}); it may be truncated or of another kind. "
            "Try to play or re-encode it."
        )
    return container


def _moving_streams(container: Any, name: str) -> list[Any]:
    """Return the video streams, the default ones first; cover art is none."""
    flags = av.stream.Disposition
    pictures = container.streams.video
    streams = [s for s in pictures if s.codec_context is not None and not s.disposition & flags.attached_pic]
    if not streams:
        kind = "only audio" if container.streams.audio else "only cover art"
        if any(stream.codec_context is None for stream in pictures):
            kind = "a video stream for which there is no decoder"
        container.close()
        raise ValueError(f"`video`={name!r} holds {kind}; pass a file with a video stream, for example H.264.")
    return sorted(streams, key=lambda stream: not stream.disposition & flags.default)


def _truncation(container: Any, stream: Any, packets: PacketTable) -> str | None:
    """Return what the file announces and does not hold, or None."""
    entries = len(stream.index_entries)
    announced = entries if container.format.name.startswith("mov") else stream.frames
    found = len(packets.pts)
    return f"it is truncated: {announced} frames are announced" if max(found, entries) < announced else None


# --------------------------------------------------------------------------------------------------------------
# orientation
# --------------------------------------------------------------------------------------------------------------
def _display_matrix(frame: Any) -> np.ndarray | None:
    """Return the 2 x 2 part of the matrix that maps stored (x, y) to shown (x, y); None where the file notes none."""
    if frame is None:
        return None
    try:
        side_data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # FFmpeg notes something that this PyAV has no name for, such as EXIF
        quarters = round(frame.rotation / 90) % 4
        return None if quarters == 0 else np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), quarters)
    if side_data is None:
        return None
    return np.frombuffer(bytes(side_data), np.int32).reshape(3, 3)[:2, :2].T


def _is_turned(matrix: np.ndarray | None) -> bool:
    return matrix is not None and not (matrix[0, 0] > abs(matrix[0, 1]) and matrix[1, 1] > abs(matrix[1, 0]))


def _upright(frame: Any) -> np.ndarray:
    """Return pixels as they are shown: a camera that films sideways or mirrored notes it in a matrix."""
    pixels, matrix = frame.to_ndarray(format="rgb24"), _display_matrix(frame)
    if matrix is None:
        return pixels
    (x_of_x, x_of_y), (y_of_x, y_of_y) = matrix.tolist()
    if abs(x_of_x) + abs(y_of_y) < abs(x_of_y) + abs(y_of_x):  # a quarter turn: rows become columns
        pixels, x_sign, y_sign = pixels.swapaxes(0, 1), x_of_y, y_of_x
    else:
        x_sign, y_sign = x_of_x, y_of_y
    return np.ascontiguousarray(pixels[:: -1 if y_sign < 0 else 1, :: -1 if x_sign < 0 else 1])
