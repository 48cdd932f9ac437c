"""Uploads that mean harm, or look as if they did."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import av
import numpy as np

from tests.tracking.media import write_audio, write_mp4, write_truncated

SVG = '<svg xmlns="http://www.w3.org/2000/svg"><script>document.title="hacked"</script></svg>'
HTML = "<html><body><script>document.title='hacked'</script></body></html>"


def hostile_files(folder: Path) -> dict[str, Path]:
    """Write 20 files that must be refused; what each is -> its path.

    The limits that go with them are `Limits(upload_mb=1, seconds=30, frames=100, megapixels=4)`.
    """
    made = {
        "empty": b"",
        "text": b"this is no video\n" * 50,
        "zip bomb": zip_bomb(),
        "SVG with a script": SVG.encode(),
        "HTML with a script": HTML.encode(),
        "playlist that names a local file": b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/passwd\n",
        "playlist that names an address": b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n",
        "concat script": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        "pickle": pickle.dumps({"a": print}),
        "program": b"\x7fELF" + bytes(range(256)) * 8,
        "noise behind an mp4's first bytes": b"\x00\x00\x00\x18ftypmp42" + noise(50_000),
        "picture of 900 million pixels": png_header(30_000, 30_000),
        "mp4 without its index": write_mp4(folder / "whole.mp4").read_bytes()[:-400],
        "frames of 100 000 x 100 000": patched_avi(folder, 100_000, 100_000),
        "frames of minus one pixel": patched_avi(folder, 2**32 - 1, 2**32 - 1),
        "more bytes than allowed": noise(1_100_000),
    }
    files = {}
    for number, (what, content) in enumerate(made.items()):
        files[what] = folder / f"hostile{number}.mp4"
        files[what].write_bytes(content)
    files["sound alone"] = write_audio(folder / "sound.mp4")
    files["longer than allowed"] = write_slow(folder / "long.mp4", seconds=40)
    files["more frames than allowed"] = write_mp4(folder / "frames.mp4", 110)
    files["more pixels than allowed"] = write_mp4(folder / "pixels.mp4", 1, width=2560, height=1600)
    return files


def harmless_files(folder: Path) -> dict[str, Path]:
    """Files that look odd and can be used: what each is -> its path."""
    names = {
        "a name that is HTML": "<img src=x onerror=alert(1)>.mp4",
        "a name that climbs": "..%2f..%2fetc%2fpasswd.mp4",
        "a name in other letters": "видео 视频 \u202e4pm.mp4",
    }
    good = write_mp4(folder / "good.mp4").read_bytes()
    files = {}
    for what, name in names.items():
        files[what] = folder / name
        files[what].write_bytes(good)
    files["one that breaks off"] = write_truncated(folder / "cut.mp4")
    return files


def noise(count: int) -> bytes:
    """Bytes that mean nothing."""
    return np.random.default_rng(0).bytes(count)


def zip_bomb() -> bytes:
    """A small archive of 200 MB of zeros."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"{number}.bin", b"\0" * 10_000_000)
    return packed.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be large."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + head
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(head)) + chunk + struct.pack(">I", zlib.crc32(chunk))


def patched_avi(folder: Path, width: int, height: int) -> bytes:
    """An AVI whose headers claim another size than its pictures have."""
    path = folder / "small.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=10)  # whose pictures do not say how large they are
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    true, claimed = struct.pack("<II", 64, 48), struct.pack("<II", width, height)
    data = path.read_bytes()
    assert data.count(true) >= 2, "the sizes stand in the main header and in the stream's"
    return data.replace(true, claimed)


def write_slow(path: Path, seconds: int) -> Path:
    """A video of one frame per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(seconds):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return path
