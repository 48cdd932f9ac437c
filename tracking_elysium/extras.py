"""What a call gives besides boxes, frame by frame as they are decided: masks, drawn frames, a folder of pictures.

Boxes are decided after their frames were read, so `LastFrames` holds the frames until then; memory does not grow with
the video. Nothing here changes what is tracked.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from PIL import Image

from .kept_tokens import MOST_VIEWS, EvenlySpread, KeptTokens, watched
from .masks import DEFAULT_MODEL, BoxSegmenter, add_masks
from .options import TrackingOptions
from .plots import plot_paths, plot_scores
from .protocols import Answerer
from .visualize import contact_sheet, draw_objects, write_video
from .whole_files import written_whole

FALLBACK_FPS = 25.0
FILES = ("tracked.mp4", "contact_sheet.png", "scores.png", "paths.png", "kept_tokens.png", "kept_tokens_share.png")
_JPEG: dict[str, Any] = {"format": "JPEG", "quality": 95, "subsampling": 0}


class LastFrames:
    """A video that remembers what was read of it, until somebody takes it.

    Args:
        source: an opened video; all else that is asked of this object is asked of it.
        most: frames that are remembered; the oldest go first.
    """

    def __init__(self, source: Any, most: int) -> None:
        self._source, self._most = source, most
        self._frames: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()  # a thread may read ahead

    def __getattr__(self, name: str) -> Any:
        """Ask the video."""
        return getattr(self._source, name)

    def read(self, indices: Iterable[int]) -> list[np.ndarray]:
        """Return uint8 RGB frames (H, W, 3) of ascending indices; fewer where the video ends before."""
        wanted = list(indices)
        images: list[np.ndarray] = self._source.read(wanted)
        with self._lock:
            self._frames.update(zip(wanted, images, strict=False))
            while len(self._frames) > self._most:
                del self._frames[next(iter(self._frames))]
        return images

    def take(self, index: int) -> np.ndarray:
        """Return a frame that was read, and forget it; one that had to go is read again (never of a stream)."""
        with self._lock:
            image = self._frames.pop(index, None)
        return self._source.read([index])[0] if image is None else image


class Extras:
    """Completes results of a call.

    Args:
        segmenter: makes the masks; None makes none.
        pictures: results get `"picture"`, the frame with boxes drawn in.
        folder: to write `FILES` to; None writes nothing.
        batched: there are several videos, each with a folder in the folder.
        kept: notes what the T-Selector keeps; None where the model keeps no patches, or nobody wants to see it.
    """

    def __init__(
        self,
        segmenter: BoxSegmenter | None = None,
        pictures: bool = False,
        folder: Path | None = None,
        batched: bool = False,
        kept: KeptTokens | None = None,
    ) -> None:
        self._segmenter, self._pictures, self._folder = segmenter, pictures, folder
        self._batched, self._kept = batched, kept
        # A video that is done is freed with its session, though hundreds may follow.
        self._sources: WeakValueDictionary[int, LastFrames] = WeakValueDictionary()
        self._albums: dict[int, Album] = {}

    @property
    def _wanted(self) -> bool:
        """Whether anything is wanted that needs frames."""
        return self._segmenter is not None or self._pictures or self._folder is not None

    def watch(self, answerer: Answerer) -> Answerer:
        """Return the answerer to ask, which is watched where somebody wants to see what it looked at."""
        return answerer if self._kept is None else watched(answerer, self._kept)

    def keep(self, position: int, source: Any, settings: TrackingOptions) -> Any:
        """Return the video to read, the one at `position` among all, whose frames are kept where they are needed."""
        if not self._wanted:
            return source
        clip_len, _, in_one_piece = settings.cut
        # One clip is answered, one waits, one is read.
        kept = self._sources[position] = LastFrames(source, 3 * max(clip_len, in_one_piece))
        return kept

    def complete(self, position: int, result: dict[str, Any]) -> dict[str, Any]:
        """Add to a result of the video at `position`, whose session still lives, what was asked for."""
        if not self._wanted:
            return result
        source = self._sources[position]
        frame = source.take(result["frame"])
        if self._segmenter is not None:
            result = next(add_masks([frame], [result], self._segmenter))
        if not self._pictures and self._folder is None:
            return result
        seconds = result["timestamp"]
        caption = f"{result['frame']}" if seconds is None else f"{seconds:.2f} s"
        picture = draw_objects(frame, result["objects"], caption=caption)
        if self._folder is not None:
            if position not in self._albums:
                folder = self._folder / str(position) if self._batched else self._folder
                self._albums[position] = Album(folder, source.fps)
            self._albums[position].add(frame, result, picture)
        return {**result, "picture": picture} if self._pictures else result

    def finish(self) -> None:
        """Write the folder; after the last result."""
        for album in self._albums.values():
            album.write()
        if self._folder is not None and self._kept is not None:
            for name, picture in zip(FILES[-2:], (self._kept.sheet(), self._kept.heat_map()), strict=True):
                if picture is not None:
                    _save(picture, self._folder / name)


class Album:
    """The pictures of one video, collected while it is tracked and written when it is done.

    Args:
        folder: to write to; made where it is missing.
        fps: frames per second of the video; None where they are not known.
    """

    def __init__(self, folder: Path, fps: float | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._fps = folder, fps
        # Frames may come in another order than that of the video, and do not fit into memory.
        self._drawn = tempfile.TemporaryDirectory(dir=folder, prefix=".frames-")
        self._results: list[dict[str, Any]] = []
        self._first: tuple[int, np.ndarray] | None = None
        self._shown: EvenlySpread[tuple[np.ndarray, dict[str, Any]]] = EvenlySpread(MOST_VIEWS)

    def add(self, frame: np.ndarray, result: dict[str, Any], picture: np.ndarray) -> None:
        """Take a frame (H, W, 3), its result, and the picture of both."""
        Image.fromarray(picture).save(self._picture_of(result), **_JPEG)
        self._shown.add((frame, result))
        slim = [{key: value for key, value in item.items() if key != "mask"} for item in result["objects"]]
        self._results.append({**result, "objects": slim})
        if self._first is None or result["frame"] < self._first[0]:
            self._first = (result["frame"], frame)

    def write(self) -> None:
        """Write video, contact sheet and plots."""
        ordered = sorted(self._results, key=lambda result: result["frame"])
        times = [result["timestamp"] for result in ordered]
        uneven = None in times or any(b <= a for a, b in zip(times, times[1:], strict=False))
        pictures = (np.asarray(Image.open(self._picture_of(result))) for result in ordered)
        video, sheet, scores, paths = (self._folder / name for name in FILES[:4])
        write_video(video, pictures, self._fps or FALLBACK_FPS, None if uneven else times)
        self._drawn.cleanup()
        shown = sorted(self._shown.chosen(), key=lambda pair: pair[1]["frame"])
        _save(contact_sheet([frame for frame, _ in shown], [result for _, result in shown]), sheet)
        _save(plot_scores(ordered), scores)
        if self._first is not None:
            _save(plot_paths(self._first[1], ordered), paths)

    def _picture_of(self, result: dict[str, Any]) -> Path:
        return Path(self._drawn.name) / f"{result['frame']}.jpg"


def extras_for(pipe: Any, task: str, masks: Any, visualize: Any, batched: bool) -> Extras:
    """Check what a call of the pipeline wants besides boxes, and load what makes it.

    Args:
        pipe: the pipeline; a segmenter that is loaded becomes its `segmenter`.
        task: of the call.
        masks: see the pipeline's argument.
        visualize: likewise.
        batched: there are several videos.

    Raises:
        ValueError: a value of no use, or one that does not go with the task.
        OSError: there is no such checkpoint.
    """
    check_masks(masks)
    folder = folder_for(visualize)
    if task == "describe" and (masks is not False or visualize is not False):
        raise ValueError("`masks` and `visualize` go with `task`='track'; leave them out for task='describe'.")
    segmenter = masks if isinstance(masks, BoxSegmenter) else None
    if segmenter is None and masks is not False:
        name = DEFAULT_MODEL if masks is True else os.fspath(masks)
        if pipe.segmenter is None or pipe.segmenter[0] != name:
            pipe.segmenter = (name, BoxSegmenter.from_pretrained(name, pipe.device))
        segmenter = pipe.segmenter[1]
    kept = None if folder is None else KeptTokens(pipe.model.config.patch_grid)
    return Extras(segmenter, visualize is True, folder, batched, kept)


def check_masks(masks: Any) -> None:
    """Raise ValueError unless `masks` is one of the values of the pipeline's argument."""
    named = isinstance(masks, (str, os.PathLike)) and bool(os.fspath(masks))
    if not isinstance(masks, (bool, BoxSegmenter)) and not named:
        raise ValueError(
            f"`masks`={masks!r} is unknown; use True (for {DEFAULT_MODEL!r}), a folder or Hub id of SAM 2 or SAM 3, "
            "or a BoxSegmenter."
        )


def folder_for(visualize: Any) -> Path | None:
    """Check the pipeline's `visualize` and give the folder to write to; None where it is True or False.

    Raises:
        ValueError: another value, a file, or a folder in which one of `FILES` is already.
    """
    if isinstance(visualize, bool):
        return None
    if not isinstance(visualize, (str, os.PathLike)) or not os.fspath(visualize):
        raise ValueError(f"`visualize`={visualize!r} is unknown; use True, False, or a folder to write pictures to.")
    folder = Path(visualize)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`visualize`={str(folder)!r} is a file; pass a folder to write pictures to.")
    there = [name for name in (*FILES, "0") if (folder / name).exists()]
    if there:
        raise ValueError(
            f"`visualize`={str(folder)!r} holds {there[0]!r} already, and nothing is overwritten; pass another folder."
        )
    return folder


def _save(picture: Image.Image, path: Path) -> None:
    with written_whole(path) as part:
        picture.save(part, format="PNG")


__all__ = ["FILES", "Album", "Extras", "LastFrames", "check_masks", "extras_for", "folder_for"]
