"""Small encoded videos, written on the spot by PyAV: frame i has the grey level `level(i)`."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np


def level(index: int) -> int:
    """Grey level of frame `index` (below 60), different for each by more than the codec's error."""
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
