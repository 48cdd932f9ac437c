"""Records as one picture: frames with the boxes drawn, and the words under them, to look at before training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..records import VideoRecord
from ..sources import open_frames

__all__ = ["contact_sheet"]

CELL_WIDTH = 300
PICTURE_HEIGHT = 190
LINE_HEIGHT = 15
MOST_LINES = 5
GAP = 8
_BACKGROUND, _INK = (24, 24, 27), (230, 230, 230)
_COLORS = ((255, 95, 86), (90, 200, 250), (255, 204, 0), (76, 217, 100), (198, 120, 255), (255, 149, 0))


def contact_sheet(records: Sequence[VideoRecord], root: str | os.PathLike[str] = ".", columns: int = 4) -> Image.Image:
    """Draw records side by side.

    Args:
        records: at least one. Of a video the first and the last annotated frame are shown.
        root: folder that the records' `video` is relative to.
        columns: records in a row.

    Raises:
        ValueError: no record, or the frames of one cannot be read; the message names the record.
    """
    if not records:
        raise ValueError("there is no record to draw; see which items were skipped, and why.")
    cells = [_cell(record, Path(root)) for record in records]
    columns = min(columns, len(cells))
    height = PICTURE_HEIGHT + (MOST_LINES + 1) * LINE_HEIGHT + GAP
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * (CELL_WIDTH + GAP) + GAP, rows * (height + GAP) + GAP), _BACKGROUND)
    for number, cell in enumerate(cells):
        place = (GAP + number % columns * (CELL_WIDTH + GAP), GAP + number // columns * (height + GAP))
        sheet.paste(cell, place)
    return sheet


def _cell(record: VideoRecord, root: Path) -> Image.Image:
    cell = Image.new("RGB", (CELL_WIDTH, PICTURE_HEIGHT + (MOST_LINES + 1) * LINE_HEIGHT + GAP), _BACKGROUND)
    try:
        shown = _first_and_last(record, root)
        frames = open_frames(shown, root)
    except (ValueError, OSError) as error:
        raise ValueError(f"record {record.id!r}: {error}") from error
    width = (CELL_WIDTH - GAP * (len(frames) - 1)) // len(frames)
    for number, frame in enumerate(frames):
        picture = Image.fromarray(frame)
        scale = min(width / picture.width, PICTURE_HEIGHT / picture.height)
        picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
        _draw_boxes(picture, shown, number)
        cell.paste(picture, (number * (width + GAP), 0))
    draw = ImageDraw.Draw(cell)
    title = f"{record.source}: {record.id}"
    for row, (text, color) in enumerate([(title, _INK), *_lines(record)][: MOST_LINES + 1]):
        draw.text((0, PICTURE_HEIGHT + GAP // 2 + row * LINE_HEIGHT), _fitted(draw, text), fill=color, font=_font())
    return cell


def _first_and_last(record: VideoRecord, root: Path) -> VideoRecord:
    if record.frame_indices is None:  # only the video knows how many there are; the first stands for it
        return VideoRecord(id=record.id, source=record.source, video=record.video, frame_indices=[0])
    return record.at(sorted({0, len(record.frame_indices) - 1}))


def _draw_boxes(picture: Image.Image, record: VideoRecord, position: int) -> None:
    draw = ImageDraw.Draw(picture)
    for number, track in enumerate(record.objects):
        if track.known[position]:
            x1, y1, x2, y2 = track.clipped_boxes[position]
            box = (x1 * picture.width, y1 * picture.height, x2 * picture.width - 1, y2 * picture.height - 1)
            if box[2] >= box[0] and box[3] >= box[1]:
                draw.rectangle(box, outline=_COLORS[number % len(_COLORS)], width=2)


def _lines(record: VideoRecord) -> list[tuple[str, tuple[int, int, int]]]:
    """Words of the objects in the colors of their boxes, then questions and answers."""
    lines = []
    for number, track in enumerate(record.objects):
        words = track.expression or track.attributes.get("category") or "(no words)"
        if track.caption and track.caption != track.expression:
            words += f" - {track.caption}"
        away = int(track.absent.sum()) if track.absent is not None else 0
        lines.append((words + (f" (absent in {away} frames)" if away else ""), _COLORS[number % len(_COLORS)]))
    for message in record.messages:
        lines.append((f"{'Q' if message['role'] == 'user' else 'A'}: {message['content']}", _INK))
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], (f"... and {len(lines) - MOST_LINES + 1} more", _INK)]
    return lines


def _fitted(draw: ImageDraw.ImageDraw, text: str) -> str:
    """Text cut to the width of a cell; letters that the font lacks become question marks."""
    text = " ".join(text.split()).encode("latin1", "replace").decode("latin1")
    if draw.textlength(text, font=_font()) <= CELL_WIDTH:
        return text
    while text and draw.textlength(text + "...", font=_font()) > CELL_WIDTH:
        text = text[:-1]
    return text + "..."


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=12)
