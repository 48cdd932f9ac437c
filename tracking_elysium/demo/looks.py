"""What the page shows of the state: frames with boxes, the list of objects, plots, the table, the status line.

Text of visitors goes into HTML escaped, always.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..visualize import color_of, display_scale, draw_objects
from .objects import Followed

LIVE_SIDE = 720  # pixels of the frames shown while tracking runs
TABLE_ROWS = 200
TABLE_COLUMNS = ["frame", "seconds", "object", "score", "x1", "y1", "x2", "y2", "found"]
NO_OBJECTS = "<p>No object yet: draw a box in a frame, or say in words what to follow.</p>"


def hex_color(number: int) -> str:
    """Give an object's color as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*color_of(number))


def legend(objects: list[Followed], num_frames: int) -> str:
    """List the objects with their colors and what is known of each, as HTML."""
    if not objects:
        return NO_OBJECTS
    rows = []
    for one in objects:
        known = f"{len(one.frames)} of {num_frames} frames" if one.frames else "not tracked yet"
        asked = "in words" if one.box is None else f"box in frame {one.start_frame}"
        swatch = f'<span class="swatch" style="background:{hex_color(one.id)}" aria-hidden="true"></span>'
        rows.append(f"<li>{swatch}<b>{html.escape(one.label)}</b> ({asked}, {known})</li>")
    return f'<ul class="objects">{"".join(rows)}</ul>'


def status(text: str, done: int | None = None, total: int = 0) -> str:
    """Give the status line as HTML, with a bar while something runs."""
    bar = "" if done is None else f'<progress max="{max(total, 1)}" value="{done}"></progress> '
    return f"<p>{bar}{html.escape(text)}</p>"


def live_picture(frame: np.ndarray, objects: list[dict[str, Any]], seconds: float | None, index: int) -> np.ndarray:
    """Draw one frame for the page, of a size that travels quickly."""
    height, width = frame.shape[:2]
    scale = min(display_scale(width, height), LIVE_SIDE / max(width, height))
    return draw_objects(frame, objects, scale, caption=f"{index}" if seconds is None else f"{seconds:.2f} s")


def save_picture(frame: np.ndarray, path: Path) -> str:
    """Write a frame as JPEG for the page and give its path."""
    Image.fromarray(frame).save(path, format="JPEG", quality=88)
    return str(path)


def names_of(objects: list[Followed]) -> dict[int, str]:
    """Give each object a name that no other has, for plots and lists."""
    labels = [one.label for one in objects]
    return {one.id: one.label if labels.count(one.label) == 1 else f"{one.label} ({one.id})" for one in objects}


def series(objects: list[Followed], results: list[dict[str, Any]]) -> Any:
    """Give what the plots show, a row per box: seconds (or frame), score, center in pixels, object."""
    import pandas

    names = names_of(objects)
    rows = []
    for result in results:
        at = result["frame"] if result["timestamp"] is None else round(result["timestamp"], 3)
        for item in result["objects"]:
            box = item["box"]
            center = ((box["xmin"] + box["xmax"]) / 2, (box["ymin"] + box["ymax"]) / 2)
            rows.append((at, round(item["score"], 4), round(center[0], 1), round(center[1], 1), names[item["id"]]))
    return pandas.DataFrame(rows, columns=["seconds", "score", "x", "y", "object"])


def colors(objects: list[Followed]) -> dict[str, str]:
    """Give the plots' colors, by the names in `series`."""
    return {name: hex_color(number) for number, name in names_of(objects).items()}


def table(objects: list[Followed], results: list[dict[str, Any]]) -> list[list[Any]]:
    """Give the boxes as rows, evenly spaced frames where there are many."""
    names = names_of(objects)
    rows = [
        [
            result["frame"],
            None if result["timestamp"] is None else round(result["timestamp"], 2),
            names[item["id"]],
            round(item["score"], 3),
            *(round(value, 1) for value in item["box"].values()),
            "yes" if item["present"] else "no",
        ]
        for result in results
        for item in result["objects"]
    ]
    step = -(-len(rows) // TABLE_ROWS) or 1
    return rows[::step]
