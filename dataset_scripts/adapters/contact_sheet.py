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
PICTURE_HEIGHT = 190  # at most
LINE_HEIGHT = 15
MOST_LINES = 5
GAP = 8
_BACKGROUND, _INK = (24, 24, 27), (230, 230, 230)
_COLORS = ((255, 214, 10), (90, 220, 250), (255, 110, 200), (120, 230, 120), (255, 160, 60), (235, 235, 235))


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
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    width = GAP + min(columns, len(cells)) * (CELL_WIDTH + GAP)
    sheet = Image.new("RGB", (width, GAP + sum(heights) + GAP * len(rows)), _BACKGROUND)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            sheet.paste(cell, (GAP + column * (CELL_WIDTH + GAP), top))
        top += height + GAP
    return sheet


def _cell(record: VideoRecord, root: Path) -> Image.Image:
    try:
        shown = _first_and_last(record)
        frames = open_frames(shown, root)
    except (ValueError, OSError) as error:
        raise ValueError(f"record {record.id!r}: {error}") from error
    width = (CELL_WIDTH - GAP * (len(frames) - 1)) // len(frames)
    pictures = []
    for number, frame in enumerate(frames):
        picture = Image.fromarray(frame)
        scale = min(width / picture.width, PICTURE_HEIGHT / picture.height)
        picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
        _draw_boxes(picture, shown, number)
        pictures.append(picture)
    lines = [(f"{record.source}: {record.id}", _INK), *_lines(record)]
    below = max(picture.height for picture in pictures) + GAP // 2
    cell = Image.new("RGB", (CELL_WIDTH, below + len(lines) * LINE_HEIGHT + GAP // 2), _BACKGROUND)
    for number, picture in enumerate(pictures):
        cell.paste(picture, (number * (width + GAP), 0))
    draw = ImageDraw.Draw(cell)
    for row, (text, color) in enumerate(lines):
        draw.text((0, below + row * LINE_HEIGHT), _fitted(draw, text), fill=color, font=_font())
    return cell


def _first_and_last(record: VideoRecord) -> VideoRecord:
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
                draw.rectangle(box, outline=(0, 0, 0), width=4)  # a rim that keeps the line visible on its own color
                draw.rectangle(box, outline=_COLORS[number % len(_COLORS)], width=2)


def _lines(record: VideoRecord) -> list[tuple[str, tuple[int, int, int]]]:
    """Words of the objects in the colors of their boxes, then questions and answers."""
    lines = []
    for number, track in enumerate(record.objects):
        words = track.expression or track.attributes.get("category") or "(no words)"
        if track.caption and track.caption != track.expression:
            words += f" - {track.caption}"
        away = 0 if track.absent is None else int(track.absent.sum())
        note = f" (absent in {away} of {len(track.boxes)} frames)" if away else ""
        lines.append((words + note, _COLORS[number % len(_COLORS)]))
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
