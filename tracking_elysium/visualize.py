"""Boxes onto frames: labeled overlays (drawn by supervision), an mp4 that plays in a browser, a contact sheet.

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

from .detections import supervision, to_detections
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
TILE_WIDTH = 300  # of a picture on a sheet
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
    """Draw boxes with label and score, and masks where there are any, onto one frame; supervision draws.

    Args:
        frame: uint8 RGB array of shape (H, W, 3).
        objects: the `"objects"` of one result; of one with score 0 (filled in by a gap policy) only the corners of the
            box are drawn.
        scale: resize factor of the picture. None: `display_scale`.
        caption: text in the top left corner.
        show_labels: write label and score at each box; otherwise only the box is drawn.

    Returns:
        uint8 RGB array of shape (round(H * scale), round(W * scale), 3).

    Raises:
        ImportError: supervision is not installed.
    """
    height, width = frame.shape[:2]
    scale = display_scale(width, height) if scale is None else scale
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    canvas = Image.fromarray(frame)
    if canvas.size != size:
        canvas = canvas.resize(size, Image.Resampling.BICUBIC)
    shown = [_displayed(item, scale, size) for item in objects]
    if shown:
        canvas = Image.fromarray(_boxes_drawn(np.asarray(canvas), shown)[..., ::-1])
    tags = [(item["box"], f"{_shortened(item['label'])} {item['score']:.2f}", item["id"]) for item in shown]
    tags = tags if show_labels else []
    if caption:
        corner = dict.fromkeys(("xmin", "ymin", "xmax", "ymax"), 0)
        tags = [*tags, (corner, _shortened(caption), len(COLORS))]
    return np.asarray(_tags_drawn(canvas, tags) if tags else canvas)


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
    scale = TILE_WIDTH / frames[0].shape[1]
    legend = list({item["id"]: item["label"] for result in results for item in result["objects"]}.items())
    tiles = []
    for frame, result in zip(frames, results, strict=True):
        seconds = "" if result["timestamp"] is None else f"  {result['timestamp']:.2f} s"
        best = {item["id"]: item["score"] for item in result["objects"]}
        tile = draw_objects(frame, result["objects"], scale, show_labels=False)
        scores = "   ".join(f"{best[number]:.2f}" if number in best else "-" for number, _ in legend)
        tiles.append((tile, f"frame {result['frame']}{seconds}   {scores}"))
    named = [(_shortened(label, 90), color_of(number)) for number, label in legend]
    return sheet_of(tiles, title, named, columns)


def sheet_of(
    tiles: Sequence[tuple[np.ndarray, str]],
    title: str | None = None,
    legend: Sequence[tuple[str, tuple[int, int, int]]] = (),
    columns: int = 4,
) -> Image.Image:
    """Put pictures side by side, each under its text.

    Args:
        tiles: uint8 RGB arrays (H, W, 3) with their texts, at least one; those of another width are resized.
        title: first line of the sheet.
        legend: names with their colors, a line each below the title.
        columns: pictures per row.

    Returns:
        The sheet as an RGB image.
    """
    gap, strip, line = 8, 22, 22
    columns = min(columns, len(tiles))
    pictures = [_of_width(Image.fromarray(picture), TILE_WIDTH) for picture, _ in tiles]
    height, font = max(picture.height for picture in pictures), _font(15)
    head = gap + line * (len(legend) + bool(title))
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (gap + columns * (TILE_WIDTH + gap), head + rows * (height + strip + gap)), (24, 24, 27))
    draw = ImageDraw.Draw(sheet)
    y = gap // 2
    if title:
        draw.text((gap, y), title, fill=(235, 235, 235), font=font)
        y += line
    for name, color in legend:
        draw.rectangle((gap, y + 3, gap + 12, y + 15), fill=color)
        draw.text((gap + 20, y), name, fill=color, font=font)
        y += line
    for number, (picture, (_, text)) in enumerate(zip(pictures, tiles, strict=True)):
        x = gap + (number % columns) * (TILE_WIDTH + gap)
        y = head + (number // columns) * (height + strip + gap)
        draw.text((x, y), text, fill=(200, 200, 200), font=font)
        sheet.paste(picture, (x, y + strip))
    return sheet


# --------------------------------------------------------------------------------------------------------------
# drawing details
# --------------------------------------------------------------------------------------------------------------
def _displayed(item: dict[str, Any], scale: float, size: tuple[int, int]) -> dict[str, Any]:
    """Copy an object with box and mask in pixels of the picture: at least 1 x 1, and inside it."""
    box = item["box"]
    xs = sorted((box["xmin"] * scale, box["xmax"] * scale))
    ys = sorted((box["ymin"] * scale, box["ymax"] * scale))
    left, top = (int(min(max(v[0], 0), limit - 1)) for v, limit in ((xs, size[0]), (ys, size[1])))
    right, bottom = (int(min(max(v[1], 0), limit - 1)) for v, limit in ((xs, size[0]), (ys, size[1])))
    shown = {**item, "box": {"xmin": left, "ymin": top, "xmax": max(right, left), "ymax": max(bottom, top)}}
    if item.get("mask") is not None:
        shown["mask"] = np.asarray(Image.fromarray(item["mask"]).resize(size, Image.Resampling.NEAREST))
    return shown


def _boxes_drawn(picture: np.ndarray, objects: list[dict[str, Any]]) -> np.ndarray:
    """Draw masks and boxes onto an RGB picture (H, W, 3); the copy returned is BGR, as supervision has it."""
    sv = supervision()
    line = max(2, round(min(picture.shape[:2]) / 180))
    drawn = np.ascontiguousarray(picture[..., ::-1])
    colored = {"color": _palette(COLORS), "color_lookup": sv.ColorLookup.TRACK}
    if any(item.get("mask") is not None for item in objects):
        drawn = sv.MaskAnnotator(**colored, opacity=0.45).annotate(drawn, to_detections({"objects": objects}))
    found = to_detections({"objects": [item for item in objects if item["score"] > 0.0]})
    # A dark rim keeps the line visible on a background of its own color.
    drawn = sv.BoxAnnotator(color=sv.Color.BLACK, thickness=line + 2).annotate(drawn, found)
    drawn = sv.BoxAnnotator(**colored, thickness=line).annotate(drawn, found)
    for item in objects:
        if item["score"] <= 0.0:
            sides = (item["box"]["xmax"] - item["box"]["xmin"], item["box"]["ymax"] - item["box"]["ymin"])
            corners = sv.BoxCornerAnnotator(**colored, thickness=line, corner_length=max(min(sides) // 4, 1))
            drawn = corners.annotate(drawn, to_detections({"objects": [item]}))
    return drawn


def _tags_drawn(canvas: Image.Image, tags: list[tuple[dict[str, float], str, int]]) -> Image.Image:
    """Write (box, text, number of its color) at the upper left corners of the boxes, apart from each other."""
    sv = supervision()
    labels = sv.RichLabelAnnotator(  # Pillow's font, which has more letters than OpenCV's
        color=_palette((*COLORS, (0, 0, 0))),
        text_color=_palette([_readable_on(color) for color in (*COLORS, (0, 0, 0))]),
        color_lookup=sv.ColorLookup.TRACK,
        font_size=max(11, round(min(canvas.size) / 26)),
        text_padding=4,
        smart_position=True,
    )
    numbers = [number if number == len(COLORS) else number % len(COLORS) for _, _, number in tags]
    corners = np.array([[box[side] for side in ("xmin", "ymin", "xmax", "ymax")] for box, _, _ in tags], np.float32)
    detections = sv.Detections(xyxy=corners, tracker_id=np.array(numbers, int))
    drawn: Image.Image = labels.annotate(canvas, detections, [text for _, text, _ in tags])
    return drawn


def _of_width(picture: Image.Image, width: int) -> Image.Image:
    """Resize a picture to a width, unless it has it."""
    if picture.width == width:
        return picture
    height = max(round(picture.height * width / picture.width), 1)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def _palette(colors: Sequence[tuple[int, int, int]]) -> Any:
    """Give RGB colors as supervision's palette, looked up by the number of an object."""
    sv = supervision()
    return sv.ColorPalette([sv.Color(*color) for color in colors])


def _readable_on(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Choose black or white for text on a color."""
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (0, 0, 0) if luminance > 110 else (255, 255, 255)


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
