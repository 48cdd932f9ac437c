"""Boxes onto frames: labeled overlays, an mp4 that plays in a browser, a contact sheet.

Results are the pipeline's dicts (`{"frame", "timestamp", "objects": [{"id", "label", "score", "box"}]}`, boxes in
pixels of the original frame); frames are uint8 RGB arrays of shape (H, W, 3).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .whole_files import written_whole

try:
    import av
except ImportError:  # drawing works without it, writing a video says what is missing
    av = None  # type: ignore[assignment]

# Okabe and Ito's colors, told apart with any kind of color vision.
COLORS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
    (255, 255, 255),
)
SHORT_SIDE = 480  # smaller frames are enlarged, so that labels can be read and a player has something to show
LONG_SIDE = 1920
_TICK = Fraction(1, 90_000)  # of a second: what times of frames are rounded to


def color_of(object_id: int) -> tuple[int, int, int]:
    """Give the RGB color of an object, the same in every frame."""
    return COLORS[int(object_id) % len(COLORS)]


def display_scale(width: int, height: int, short_side: int = SHORT_SIDE, long_side: int = LONG_SIDE) -> float:
    """Choose the factor for display: tiny frames are enlarged (by whole numbers), huge ones reduced."""
    factor = max(1, round(short_side / min(width, height)))
    while factor > 1 and factor * max(width, height) > long_side:
        factor -= 1
    return float(factor) if max(width, height) <= long_side else long_side / max(width, height)


def draw_objects(
    frame: np.ndarray,
    objects: Sequence[dict[str, Any]],
    scale: float | None = None,
    caption: str | None = None,
    show_labels: bool = True,
) -> np.ndarray:
    """Draw boxes with label and score onto one frame.

    Args:
        frame: uint8 RGB array of shape (H, W, 3).
        objects: the `"objects"` of one result; an object with score 0 (filled in by a gap policy) is drawn dashed.
        scale: resize factor of the picture. None: `display_scale`.
        caption: text in the top left corner.
        show_labels: write label and score at each box; otherwise only the box is drawn.

    Returns:
        uint8 RGB array of shape (round(H * scale), round(W * scale), 3).
    """
    height, width = frame.shape[:2]
    scale = display_scale(width, height) if scale is None else scale
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    canvas = Image.fromarray(frame)
    if canvas.size != size:
        canvas = canvas.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    line = max(2, round(min(size) / 180))
    font = _font(max(11, round(min(size) / 26)))
    corners = [_corners(item["box"], scale, size) for item in objects]
    for item, box in zip(objects, corners, strict=True):
        _rectangle(draw, box, color_of(item["id"]), line, dashed=item["score"] <= 0.0)
    taken = [_tag(draw, caption, (0, 0), font, (0, 0, 0), size, [])] if caption else []
    for item, box in zip(objects, corners, strict=True) if show_labels else ():
        text = f"{_shortened(item['label'])} {item['score']:.2f}"
        taken.append(_tag(draw, text, (box[0], box[1]), font, color_of(item["id"]), size, taken, below=box[3]))
    return np.asarray(canvas)


def write_video(
    path: str | Path, frames: Iterable[np.ndarray], fps: float, times: Sequence[float] | None = None
) -> int:
    """Write an mp4 that browsers play: H.264, yuv420p, even sides, index at the front; whole or not at all.

    Args:
        path: file to write, ending in `.mp4`.
        frames: uint8 RGB arrays of one shape (H, W, 3), taken one by one.
        fps: frames per second.
        times: second in which each frame is shown, ascending, for a video whose rate varies; `fps` is a hint then.

    Returns:
        The number of frames written.

    Raises:
        ValueError: no frame, or another ending than `.mp4`.
        OSError: the file cannot be written; what stood there stays.
        ImportError: PyAV is not installed.
    """
    if av is None:
        raise ImportError("Writing a video needs PyAV; install it with `pip install av`.")
    if Path(path).suffix.lower() != ".mp4":
        raise ValueError(f"`path`={str(path)!r} does not end in .mp4; the overlay is an H.264 mp4.")
    with written_whole(path) as part:
        try:
            count = _encode(part, frames, fps, times)
            if count:
                with av.open(str(part)) as written:  # a full disk may raise no error before
                    if written.streams.video[0].frames != count:
                        raise OSError(errno.EIO, "not all frames arrived on the disk")
        except av.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error
        if count == 0:
            raise ValueError("`frames` is empty; there is no video to write.")
    return count


def _encode(path: Path, frames: Iterable[np.ndarray], fps: float, times: Sequence[float] | None) -> int:
    """Write frames to a file that may stay broken after an error; return the number of frames."""
    count = 0
    container = stream = None
    try:
        for frame in frames:
            padded = _even(frame)
            if stream is None or container is None:
                container = av.open(str(path), mode="w", options={"movflags": "+faststart"})
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                stream.height, stream.width = padded.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.options = {"crf": "20", "preset": "veryfast"}
                if times is not None:
                    stream.codec_context.time_base = _TICK
            picture = av.VideoFrame.from_ndarray(padded, format="rgb24")
            if times is not None:
                picture.pts, picture.time_base = round((times[count] - times[0]) / _TICK), _TICK
            container.mux(stream.encode(picture))
            count += 1
        if stream is not None and container is not None:
            container.mux(stream.encode())
    except BaseException:
        if container is not None:
            with suppress(av.FFmpegError):  # what went wrong first is told
                container.close()
        raise
    if container is not None:
        container.close()
    return count


def contact_sheet(
    frames: Sequence[np.ndarray], results: Sequence[dict[str, Any]], columns: int = 4, title: str | None = None
) -> Image.Image:
    """Put some frames with their boxes side by side, under a legend of the objects.

    Args:
        frames: uint8 RGB arrays of shape (H, W, 3), all of one size.
        results: the result of each of these frames.
        columns: pictures per row.
        title: first line of the sheet.

    Returns:
        The sheet as an RGB image.

    Raises:
        ValueError: no frames, or not one result per frame.
    """
    if not len(frames) or len(frames) != len(results):
        raise ValueError(
            f"Got {len(frames)} frames and {len(results)} results; pass one result per frame, at least one."
        )
    height, width = frames[0].shape[:2]
    scale = 300 / width
    gap, columns = 8, min(columns, len(frames))
    legend = list({item["id"]: item["label"] for result in results for item in result["objects"]}.items())
    font = _font(15)
    lines = [(title, (235, 235, 235))] if title else []
    lines += [(_shortened(label, 90), color_of(number)) for number, label in legend]
    tiles = []
    for frame, result in zip(frames, results, strict=True):
        seconds = "" if result["timestamp"] is None else f"  {result['timestamp']:.2f} s"
        best = {item["id"]: item["score"] for item in result["objects"]}
        tile = draw_objects(frame, result["objects"], scale, show_labels=False)
        scores = "   ".join(f"{best[number]:.2f}" if number in best else "-" for number, _ in legend)
        tiles.append((tile, f"frame {result['frame']}{seconds}   {scores}"))
    tile_height, tile_width = tiles[0][0].shape[:2]
    strip, head = 22, gap + 22 * len(lines)
    rows = -(-len(tiles) // columns)
    sheet = Image.new(
        "RGB", (gap + columns * (tile_width + gap), head + rows * (tile_height + strip + gap)), (24, 24, 27)
    )
    draw = ImageDraw.Draw(sheet)
    for number, (text, color) in enumerate(lines):
        x, y = gap, gap // 2 + 22 * number
        if number >= len(lines) - len(legend):
            draw.rectangle((x, y + 3, x + 12, y + 15), fill=color)
            x += 20
        draw.text((x, y), text, fill=color, font=font)
    for number, (tile, text) in enumerate(tiles):
        x = gap + (number % columns) * (tile_width + gap)
        y = head + (number // columns) * (tile_height + strip + gap)
        draw.text((x, y), text, fill=(200, 200, 200), font=font)
        sheet.paste(Image.fromarray(tile), (x, y + strip))
    return sheet


# --------------------------------------------------------------------------------------------------------------
# drawing details
# --------------------------------------------------------------------------------------------------------------
def _corners(box: dict[str, float], scale: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Compute the display pixels of a box, at least 1 x 1 and inside the picture."""
    xs = sorted((box["xmin"] * scale, box["xmax"] * scale))
    ys = sorted((box["ymin"] * scale, box["ymax"] * scale))
    left, top = (int(min(max(v[0], 0), limit - 1)) for v, limit in ((xs, size[0]), (ys, size[1])))
    right, bottom = (int(min(max(v[1], 0), limit - 1)) for v, limit in ((xs, size[0]), (ys, size[1])))
    return left, top, max(right, left), max(bottom, top)


def _rectangle(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], color: tuple[int, ...], line: int, dashed: bool
) -> None:
    left, top, right, bottom = box
    if not dashed:
        # A dark rim keeps the line visible on a background of its own color.
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(0, 0, 0), width=line + 2)
        draw.rectangle(box, outline=color, width=line)
        return
    dash = line * 3
    for x in range(left, right + 1, 2 * dash):
        for y in (top, bottom):
            draw.line((x, y, min(x + dash, right), y), fill=color, width=line)
    for y in range(top, bottom + 1, 2 * dash):
        for x in (left, right):
            draw.line((x, y, x, min(y + dash, bottom)), fill=color, width=line)


def _tag(
    draw: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[int, int],
    font: Any,
    color: tuple[int, ...],
    size: tuple[int, int],
    taken: list[tuple[float, float, float, float]],
    below: int | None = None,
) -> tuple[float, float, float, float]:
    """Write text on a filled plate above the corner (or below the box when there is no room); return the plate."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = round(right - left) + 8, round(bottom - top) + 6
    x = min(max(corner[0], 0), max(size[0] - width, 0))
    below = corner[1] if below is None else below
    heights = [corner[1] - height, below + 2, corner[1] + 2, *range(0, max(size[1] - height, 1), height)]
    inside = [y for y in heights if 0 <= y <= size[1] - height] or [0]
    free = [y for y in inside if not any(_overlap((x, y, x + width, y + height), other) for other in taken)]
    y = (free or inside)[0]
    draw.rectangle((x, y, x + width, y + height), fill=color)
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    draw.text((x + 4 - left, y + 3 - top), text, fill=(0, 0, 0) if luminance > 110 else (255, 255, 255), font=font)
    return x, y, x + width, y + height


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _shortened(label: str, limit: int = 40) -> str:
    label = " ".join(label.split())
    return label if len(label) <= limit else label[: limit - 3] + "..."


def _even(frame: np.ndarray) -> np.ndarray:
    """Pad to even sides by repeating the last row or column: yuv420p stores color for blocks of 2 x 2."""
    height, width = frame.shape[:2]
    return np.ascontiguousarray(np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))


def _font(size: int) -> Any:
    try:
        return ImageFont.load_default(size=size)
    except (OSError, TypeError, ImportError):  # Pillow without FreeType has one size only
        return ImageFont.load_default()
