"""Tracks as files: MOT, COCO and Label Studio, besides the JSON, CSV and mp4 of `elysium track`.

Results are the pipeline's dicts, boxes in pixels. The three annotation formats have no word for a box that a gap
policy put (`present` False), so it is left out of them; JSON and CSV hold every box. `dataset_scripts.adapters` reads
the three back.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from ..cli.output import document, write_csv, write_json, write_overlay
from ..queries import ObjectQuery
from ..whole_files import written_whole
from .objects import Followed
from .uploads import Clip

Results = list[dict[str, Any]]
NAMES = {
    "mp4": "tracked.mp4",
    "JSON": "tracks.json",
    "CSV": "tracks.csv",
    "MOT": "tracks_mot.txt",
    "COCO": "tracks_coco.json",
    "Label Studio": "tracks_label_studio.json",
}


def write_all(folder: Path, clip: Clip, source: Any, objects: list[Followed], results: Results) -> dict[str, Path]:
    """Write every format.

    Args:
        folder: where to.
        clip: the video.
        source: the opened video, for the overlay.
        objects: what was followed.
        results: what came out, in order.

    Returns:
        Format -> file.
    """
    paths = {kind: folder / name for kind, name in NAMES.items()}
    write_json(str(paths["JSON"]), document(clip.name, source, [_query(one, clip) for one in objects], results))
    write_csv(paths["CSV"], results)
    with written_whole(paths["MOT"]) as part:
        part.write_text(mot(results), encoding="utf-8")
    write_json(str(paths["COCO"]), coco(results, clip))
    with written_whole(paths["Label Studio"]) as part:
        part.write_text(json.dumps(label_studio(results, clip), indent=1, ensure_ascii=False), encoding="utf-8")
    write_overlay(paths["mp4"], source, results)
    return paths


def mot(results: Results) -> str:
    """Write MOTChallenge lines: frame,id,left,top,width,height,score,-1,-1,-1; frames, ids and pixels from 1."""
    lines = []
    for result in results:
        for item in _seen(result):
            left, top, width, height = _extent(item)
            box = f"{left + 1:.2f},{top + 1:.2f},{width:.2f},{height:.2f}"
            score = max(item["score"], 1e-4)  # a 0 in this column says that the line does not count
            lines.append(f"{result['frame'] + 1},{item['id'] + 1},{box},{score:.4f},-1,-1,-1\n")
    return "".join(lines)


def coco(results: Results, clip: Clip) -> dict[str, Any]:
    """Build COCO's lists with a list of videos (CocoVID): an image per tracked frame, `track_id` per object."""
    labels = list(dict.fromkeys(item["label"] for result in results for item in result["objects"]))
    categories = {label: number for number, label in enumerate(labels, start=1)}
    stem, size = Path(clip.name).stem, {"width": clip.width, "height": clip.height}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for result in results:
        image = result["frame"] + 1
        name = f"{stem}/{result['frame']:06d}.jpg"
        images.append({"id": image, "video_id": 1, "frame_id": result["frame"], "file_name": name, **size})
        for item in _seen(result):
            extent = [round(value, 2) for value in _extent(item)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": categories[item["label"]],
                    "track_id": item["id"] + 1,
                    "bbox": extent,
                    "area": round(extent[2] * extent[3], 2),
                    "iscrowd": 0,
                    "score": round(item["score"], 4),
                }
            )
    return {
        "videos": [{"id": 1, "name": stem, "file_name": clip.name, "fps": clip.fps, **size}],
        "images": images,
        "categories": [{"id": number, "name": label} for label, number in categories.items()],
        "annotations": annotations,
    }


def label_studio(results: Results, clip: Clip) -> list[dict[str, Any]]:
    """Build a Label Studio task with a region per object: a keyframe per frame, numbers in per cent of the frame.

    A keyframe that is not followed by one of the next frame is the last of its stretch (`enabled` false).
    """
    tracks: defaultdict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
    for result in results:
        for item in _seen(result):
            tracks[item["id"]][result["frame"]] = {**item, "timestamp": result["timestamp"]}
    regions = []
    for number, track in sorted(tracks.items()):
        sequence = [_keyframe(frame, item, clip, frame + 1 in track) for frame, item in sorted(track.items())]
        label = next(iter(track.values()))["label"]
        value = {"framesCount": clip.num_frames, "sequence": sequence, "labels": [label]}
        named = {"id": f"object-{number}", "type": "videorectangle", "from_name": "box", "to_name": "video"}
        regions.append({**named, "value": value})
    return [{"data": {"video": clip.name}, "annotations": [{"result": regions}]}]


def _keyframe(frame: int, item: dict[str, Any], clip: Clip, goes_on: bool) -> dict[str, Any]:
    left, top, width, height = _extent(item)
    where = {
        "x": left / clip.width * 100,
        "y": top / clip.height * 100,
        "width": width / clip.width * 100,
        "height": height / clip.height * 100,
    }
    when = {} if item["timestamp"] is None else {"time": round(item["timestamp"], 4)}
    exact = {name: round(value, 4) for name, value in where.items()}
    return {"frame": frame + 1, **when, "enabled": goes_on, "rotation": 0, **exact}


def _seen(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in result["objects"] if item["present"]]


def _extent(item: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, width, height in pixels."""
    box = item["box"]
    return box["xmin"], box["ymin"], box["xmax"] - box["xmin"], box["ymax"] - box["ymin"]


def _query(one: Followed, clip: Clip) -> ObjectQuery:
    """What was asked for, as the command line would have been asked."""
    size = (clip.width, clip.height, clip.width, clip.height)
    x1, y1, x2, y2 = (0.0,) * 4 if one.box is None else (v / s for v, s in zip(one.box, size, strict=True))
    box = None if one.box is None else (x1, y1, x2, y2)
    return ObjectQuery(one.id, one.label, box, one.expression, one.start_frame, one.direction)
