"""Small video files, good and bad, written for a test."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from .oracle import video

# Real decoders need blocks of 16; the frames of `oracle.video` are 60 x 40.
WIDTH, HEIGHT = 64, 48


def write_mp4(
    path: Path, num_frames: int = 12, width: int = WIDTH, height: int = HEIGHT, gop: int = 4, **options: str
) -> Path:
    """An H.264 file at 10 frames per second; its index stands at the end, as most cameras write it."""
    smooth = np.kron(
        np.random.default_rng(0).integers(0, 255, (4, 4, 3)), np.ones((1 + height // 4, 1 + width // 4, 1))
    )
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"g": str(gop), "bf": "0"}
        for number in range(num_frames):
            picture = np.roll(smooth[:height, :width], number, axis=1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_truncated(path: Path, num_frames: int = 24) -> Path:
    """A file with its index at the front that breaks off in the middle, as after a cut download."""
    whole = write_mp4(path.with_name("whole.mp4"), num_frames, width=128, height=96, movflags="+faststart")
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    return path


def write_audio(path: Path) -> Path:
    """A tenth of a second of silence, no pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def bad_files(folder: Path) -> dict[str, Path]:
    """Files that cannot be tracked, by name."""
    good = write_mp4(folder / "good.mp4")
    files = {name: folder / f"{name}.mp4" for name in ("missing", "text", "empty", "no_index", "audio")}
    files["text"].write_text("this is no video\n" * 50)
    files["empty"].write_bytes(b"")
    files["no_index"].write_bytes(good.read_bytes()[:-400])  # the index at the end is cut off
    write_audio(files["audio"])
    return {"good": good, "folder": folder, **files}


def tiny_video(num_frames: int = 12) -> list[np.ndarray]:
    """Frames in memory."""
    return video(num_frames)
