"""Small encoded videos, written on the spot by PyAV: frame i has the gray level `level(i)`."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def level(index: int) -> int:
    """Gray level of frame `index` (below 60), different for each by more than the codec's error."""
    return 8 + 4 * (index * 23 % 60)


def write_video(
    path: Path,
    num_frames: int = 24,
    width: int = 64,
    height: int = 48,
    fps: int = 25,
    gop: int = 6,
    faststart: bool = True,
    noise: int = 0,
    top: int | None = None,
    codec: str = "libx264",
) -> Path:
    """A video file, H.264 mp4 by default.

    `noise` > 0 makes the frames costly, so that cutting the file cuts frames; `top` paints the upper half.
    """
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options={"movflags": "+faststart"} if faststart else {}) as container:
        options = {"g": str(gop), "crf": "18"} if codec == "libx264" else {"b": "2000000"}
        stream = container.add_stream(codec, rate=fps, options={} if codec == "gif" else options)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb8" if codec == "gif" else "yuv420p"
        for index in range(num_frames):
            frame = np.full((height, width, 3), level(index), np.int64)
            if top is not None:
                frame[: height // 2] = top
            if noise:
                frame = np.clip(frame + rng.integers(-noise, noise, frame.shape), 0, 255)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return path


def write_audio(path: Path) -> Path:
    """A file with sound and no pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        for _ in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cut(source: Path, target: Path, share: float) -> Path:
    """The first `share` of a file."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def turned(source: Path, target: Path, width: int, height: int) -> Path:
    """The same mp4 with a note to show it turned clockwise by 90 degrees, as phones write it."""
    data = bytearray(source.read_bytes())
    matrix = data.find(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version and flags, times and ids, reserved, layer to volume
    struct.pack_into(">9i", data, matrix, 0, 65536, 0, -65536, 0, 0, height * 65536, 0, 1 << 30)
    target.write_bytes(data)
    return target


def two_sizes(path: Path) -> Path:
    """A stream of JPEGs (motion JPEG) whose frames change size after the fifth."""
    with path.open("wb") as file:
        for index in range(9):
            size = (64, 48) if index < 5 else (32, 24)
            codec = av.CodecContext.create("mjpeg", "w")
            codec.width, codec.height, codec.pix_fmt, codec.framerate = *size, "yuvj420p", 25
            codec.time_base = 1 / codec.framerate
            frame = np.full((size[1], size[0], 3), level(index), np.uint8)
            for packet in codec.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuvj420p")):
                file.write(bytes(packet))
    return path


# --------------------------------------------------------------------------------------------------------------
# frames that carry their number, for videos of up to 256 frames
# --------------------------------------------------------------------------------------------------------------
def numbered(index: int, width: int = 96, height: int = 64) -> np.ndarray:
    """Frame `index`: its number as eight black or white stripes in the upper half, a gradient in the lower."""
    frame = np.full((height, width, 3), 90, np.uint8)
    frame[height // 2 :] = np.linspace(60, 200, width)[None, :, None]
    for bit in range(8):
        frame[: height // 2, bit * width // 8 : (bit + 1) * width // 8] = 230 if index >> bit & 1 else 20
    return frame


def number_of(frame: np.ndarray) -> int:
    """The number that `numbered` wrote, read off the pixels."""
    height, width = frame.shape[:2]
    columns = [frame[height // 4, bit * width // 8 + width // 16].mean() > 125 for bit in range(8)]
    return sum(int(is_white) << bit for bit, is_white in enumerate(columns))


def encode(
    path: Path,
    codec: str = "libx264",
    count: int = 60,
    fps: int = 25,
    gop: int = 12,
    b_frames: int = 3,
    params: str = "",
    milliseconds: list[int] | None = None,
    size: tuple[int, int] = (96, 64),
) -> Path:
    """Write numbered frames.

    Args:
        path: file to write; its ending says the container.
        codec: name of the encoder.
        count: frames.
        fps: frames per second.
        gop: frames from key frame to key frame.
        b_frames: frames in a row that refer to a later one.
        params: `x264-params` or `x265-params`.
        milliseconds: times of the frames, instead of equal steps.
        size: width and height.
    """
    options = {"g": str(gop), "bf": str(b_frames)}
    if codec in ("libx264", "libx265"):
        quiet = "log-level=none:" if codec == "libx265" else ""
        options[f"{codec[3:]}-params"] = quiet + params
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options if codec != "mjpeg" else {})
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate = 4_000_000
        if milliseconds is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(numbered(index, *size), format="rgb24")
            if milliseconds is not None:
                frame.pts, frame.time_base = milliseconds[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def trim(source: Path, target: Path, start: float) -> Path:
    """Copy the packets from the key frame before `start` seconds on, as `ffmpeg -ss START -c copy` does."""
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        stream = container.streams.video[0]
        copy = out.add_stream_from_template(stream)
        shift = int(start / stream.time_base)
        container.seek(shift, stream=stream)
        for packet in container.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                out.mux(packet)
    return target


def middle(source: Path, target: Path, begin: float, end: float) -> Path:
    """A piece of a transport stream, as recorders and HLS cut it: from share `begin` to share `end` of its packets."""
    data = source.read_bytes()
    count = len(data) // 188
    target.write_bytes(data[188 * int(count * begin) : 188 * int(count * end)])
    return target


def shown(path: Path) -> tuple[list[int], list[float | None]]:
    """What a player shows: numbers and seconds of the frames as a decoder gives them from the beginning."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(number_of(f.to_ndarray(format="rgb24")), f.pts) for f in container.decode(stream)]
        first = frames[0][1]
        seconds = [None if pts is None else float((pts - first) * stream.time_base) for _, pts in frames]
    return [number for number, _ in frames], seconds


def with_matrix(source: Path, target: Path, matrix: tuple[int, int, int, int], width: int, height: int) -> Path:
    """The same mp4 with the display matrix (a, b, c, d): stored (x, y) is shown at (a x + c y, b x + d y)."""
    data = bytearray(source.read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    place = data.find(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version and flags, times and ids, reserved, layer to volume
    x, y = (size << 16 if min(pair) < 0 else 0 for size, pair in ((width, matrix[::2]), (height, matrix[1::2])))
    struct.pack_into(">9i", data, place, a, b, 0, c, d, 0, x, y, 1 << 30)
    target.write_bytes(data)
    return target
