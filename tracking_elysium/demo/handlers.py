"""What happens when a visitor does something; a method per button, plain values in and out.

Nothing here knows where on the page a value is shown (`page.py` does). What a visitor did wrong is a ValueError with a
sentence; `page.py` shows it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import looks
from .engine import Engine, release_memory
from .exports import write_all
from .limits import Limits
from .objects import DIRECTIONS, Followed, as_results, clean_text, frames_to_decide, remaining, take
from .sessions import Session, Sessions, new_folder
from .uploads import find_upload, open_clip, take_in

LIVE_EVERY_S = 0.4  # between two pictures while tracking runs
LIVE_KEPT = 10  # pictures that lie there for browsers that come late


@dataclass(frozen=True)
class Shown:
    """A frame for the box editor.

    Attributes:
        picture: path of a JPEG.
        index: which frame.
        box: x1, y1, x2, y2 in pixels, or None.
        color: of the box.
    """

    picture: str
    index: int
    box: tuple[float, float, float, float] | None = None
    color: str = "#ffffff"


@dataclass(frozen=True)
class Outcome:
    """What a job shows: on the way only the path of a picture and the status, at the end the files too."""

    status: str
    picture: str | None = None
    files: dict[str, Path] = field(default_factory=dict)
    results: list[dict[str, Any]] | None = None


class Handlers:
    """The steps of a visit.

    Args:
        engine: the model.
        sessions: the visitors.
        limits: what they may ask for.
        sample: a video that is there without an upload, or None.
    """

    def __init__(self, engine: Engine, sessions: Sessions, limits: Limits, sample: Path | None = None) -> None:
        self.engine, self.sessions, self.limits, self.sample = engine, sessions, limits, sample

    # ----------------------------------------------------------------------------------------------------------
    # the video and its frames
    # ----------------------------------------------------------------------------------------------------------
    def open_upload(self, visitor: str | None, upload: str | None) -> Session:
        """Take in an uploaded or recorded video; what was there before is gone."""
        session = self.sessions.of(visitor)
        with session.alone():
            session.clear()
            self.sessions.replace_upload(session, find_upload(upload, self.sessions.uploads))
            own = take_in(upload, session.folder, self.sessions.uploads, self.limits)
            name = clean_text(Path(upload or "").name[-80:], "The file's name") or own.name
            session.clip = open_clip(self.engine.open_video, own, self.limits, name)
        return session

    def open_sample(self, visitor: str | None) -> Session:
        """Take the sample."""
        if self.sample is None:
            raise ValueError("There is no sample on this machine; upload a video.")
        session = self.sessions.of(visitor)
        with session.alone():
            session.clear()
            self.sessions.replace_upload(session, None)
            own = session.folder / self.sample.name
            shutil.copyfile(self.sample, own)
            session.clip = open_clip(self.engine.open_video, own, self.limits, self.sample.name)
        return session

    def forget(self, visitor: str | None) -> Session:
        """Forget the video."""
        session = self.sessions.of(visitor)
        with session.alone():
            session.clear()
            self.sessions.replace_upload(session, None)
        return session

    def frame(self, visitor: str | None, index: float | None, selected: int | None) -> Shown:
        """Give a frame, with the selected object's box where it is known."""
        session = self.sessions.of(visitor)
        clip = session.video()
        at = min(max(int(index or 0), 0), clip.num_frames - 1)
        with self.engine.open_video(clip.path) as source:
            images = source.read([at])
        if not images:
            raise ValueError(f"Frame {at} cannot be read; the video breaks off before it.")
        picture = looks.save_picture(images[0], session.folder / f"frame_{at}.jpg")
        chosen = next((one for one in session.objects if one.id == selected), None)
        if chosen is None:
            return Shown(picture, at)
        return Shown(picture, at, chosen.box_at(at), looks.hex_color(chosen.id))

    # ----------------------------------------------------------------------------------------------------------
    # the objects
    # ----------------------------------------------------------------------------------------------------------
    def add_box(
        self, visitor: str | None, index: float, box: list[float | None], label: str | None, direction: str
    ) -> Followed:
        """Add the object in a box of a frame."""
        session = self.sessions.of(visitor)
        with session.alone():
            clip, known = session.video(), self._box(session, box)
            if direction not in DIRECTIONS:
                raise ValueError(f"The direction {direction!r} is none of {', '.join(DIRECTIONS)}.")
            self._check_room(session, 1)
            name = clean_text(label, "The name") or f"object {session.next_id}"
            at = min(max(int(index), 0), clip.num_frames - 1)
            return self._add(session, Followed(session.next_id, name, at, box=known, direction=direction))

    def add_words(self, visitor: str | None, text: str | None, index: float) -> list[Followed]:
        """Add an object per line of text, looked for from a frame on."""
        session = self.sessions.of(visitor)
        with session.alone():
            clip = session.video()
            lines = [line for line in (clean_text(line, "The text") for line in (text or "").splitlines()) if line]
            if not lines:
                raise ValueError("Say what to follow, one object a line, for example: the bottle")
            self._check_room(session, len(lines))
            at = min(max(int(index), 0), clip.num_frames - 1)
            return [self._add(session, Followed(session.next_id, line, at, expression=line)) for line in lines]

    def remove(self, visitor: str | None, selected: int | None) -> Session:
        """Stop following an object."""
        session = self.sessions.of(visitor)
        with session.alone():
            session.objects.remove(session.object(selected))
        return session

    def correct(self, visitor: str | None, selected: int | None, index: float, box: list[float | None]) -> Followed:
        """Put an object where it really is in a frame; what was tracked after it is forgotten."""
        session = self.sessions.of(visitor)
        with session.alone():
            clip, one = session.video(), session.object(selected)
            one.correct(min(max(int(index), 0), clip.num_frames - 1), self._box(session, box))
        return one

    def _check_room(self, session: Session, more: int) -> None:
        if len(session.objects) + more > self.limits.objects:
            raise ValueError(f"At most {self.limits.objects} objects can be followed at once; remove some first.")

    def _add(self, session: Session, one: Followed) -> Followed:
        session.objects.append(one)
        session.next_id += 1
        return one

    def _box(self, session: Session, box: list[float | None]) -> tuple[float, float, float, float]:
        clip = session.video()
        numbers = [value for value in box if value is not None]
        if len(numbers) != 4 or numbers[2] <= numbers[0] or numbers[3] <= numbers[1]:
            raise ValueError(
                "There is no box yet; draw one in the frame with the mouse or a finger, or type left, top, right and "
                "bottom in pixels."
            )
        return self.engine.check_box(numbers, clip.width, clip.height)

    # ----------------------------------------------------------------------------------------------------------
    # what the model does
    # ----------------------------------------------------------------------------------------------------------
    def wait(self, visitor: str | None) -> str:
        """Note that a job was asked for, so that Stop is heeded while it waits for others' jobs."""
        session = self.sessions.of(visitor)
        if not session.busy.locked():
            session.waiting = True
            session.stop.clear()
        return looks.status("Waiting for the model ...")

    def track(self, visitor: str | None, model: str | None) -> Iterator[Outcome]:
        """Track what is left to track; pictures on the way, files at the end.

        Stop, the time limit and the end of the visit keep what there is.
        """
        session = self.sessions.of(visitor, is_visit=False)
        with session.alone():
            stopped = session.waiting and session.stop.is_set()
            session.waiting = False
            session.stop.clear()
            if stopped:
                yield Outcome(looks.status("Stopped before it began."))
                return
            clip = session.video()
            if not session.objects:
                raise ValueError("There is nothing to track yet; draw a box, or say in words what to follow.")
            runs = remaining(session.objects, clip.num_frames)
            if not runs:
                raise ValueError("Every frame is tracked; correct a box, or add another object.")
            words = "Stopped"
            with self.engine.open_video(clip.path) as source:
                for outcome in self._tracked(session, source, runs, model):
                    words = outcome.status
                    if outcome.picture is not None:
                        yield outcome
            yield Outcome(looks.status(f"{words} Writing the files ..."))
            yield self._finished(session, words)

    def _tracked(self, session: Session, source: Any, runs: list[Any], model: str | None) -> Iterator[Outcome]:
        """Yield pictures on the way; the last outcome has no picture and says in plain words how it ended."""
        clip = session.video()
        total, done, started, last = frames_to_decide(runs, clip.num_frames), 0, time.monotonic(), 0.0
        ended = "Done."
        stream = self.engine.track(model, clip.path, runs)
        try:
            for position, result in stream:
                done += take(session.objects, runs[position], result)
                now = time.monotonic()
                if session.stop.is_set():
                    ended = "Stopped; Track goes on from here."
                    break
                if now - started > self.limits.job_seconds:
                    ended = f"Stopped after {self.limits.job_seconds} s, the time of a job; Track goes on from here."
                    break
                if now - last >= LIVE_EVERY_S:
                    last = now
                    session.used = now
                    yield self._picture(session, source, result, done, total)
        finally:
            stream.close()
        seconds = max(time.monotonic() - started, 1e-9)
        yield Outcome(f"{ended} {done} boxes in {seconds:.1f} s.")

    def _picture(self, session: Session, source: Any, result: dict[str, Any], done: int, total: int) -> Outcome:
        at = result["frame"]
        objects = [one.frames[at] for one in session.objects if at in one.frames]
        images = source.read([at])
        status = looks.status(f"Frame {at}, {done} of {total} boxes", done, total)
        if not images:
            return Outcome(status)
        picture = looks.live_picture(images[0], objects, source.timestamp(at), at)
        session.pictures += 1  # an address shows one picture, since browsers remember it
        (session.folder / f"live_{session.pictures - LIVE_KEPT}.jpg").unlink(missing_ok=True)
        return Outcome(status, looks.save_picture(picture, session.folder / f"live_{session.pictures}.jpg"))

    def _finished(self, session: Session, words: str) -> Outcome:
        """Write the files of all that is known."""
        clip = session.video()
        with self.engine.open_video(clip.path) as source:
            results = as_results(session.objects, source.timestamp)
            if not results:
                return Outcome(looks.status(f"{words} No box was found."), results=[])
            folder = new_folder(session.folder)
            files = write_all(folder, clip, source, session.objects, results)
        if session.result is not None:
            shutil.rmtree(session.result, ignore_errors=True)
        session.result = folder
        release_memory()
        return Outcome(looks.status(words), files=files, results=results)

    def stop(self, visitor: str | None) -> str:
        """Ask the running job to end."""
        session = self.sessions.of(visitor)
        if not (session.busy.locked() or session.waiting):
            return looks.status("Nothing is running.")
        session.stop.set()
        return looks.status("Stopping ...")

    def describe(self, visitor: str | None, model: str | None, selected: int | None, index: float) -> str:
        """Say what the selected object is, from where it is in a frame."""
        session = self.sessions.of(visitor, is_visit=False)
        with session.alone():
            clip, one = session.video(), session.object(selected)
            at = min(max(int(index), 0), clip.num_frames - 1)
            box = one.box_at(at)
            if box is None:
                raise ValueError(f"{one.label!r} has no box in frame {at}; track it first, or go to a frame with one.")
            text = self.engine.describe(model, clip.path, at, list(box))
            return self._with_doubt(text, model, "video_reg", session)

    def ask(self, visitor: str | None, model: str | None, question: str | None) -> str:
        """Answer a question about the video."""
        session = self.sessions.of(visitor, is_visit=False)
        with session.alone():
            clip, line = session.video(), clean_text(question, "The question")
            if not line:
                raise ValueError("The question is empty; say what you want to know.")
            return self._with_doubt(self.engine.ask(model, clip.path, line), model, "vqa", session)

    def _with_doubt(self, text: str, model: str | None, task: str, session: Session) -> str:
        clip = session.video()
        doubt = self.engine.untaught(model, task, (clip.width, clip.height))
        if doubt is not None:
            return f"{text}\n\n(Do not rely on this: {doubt})"
        caution = self.engine.caution(model, task)
        return text if caution is None else f"{text}\n\n(Of this model: {caution}.)"

    def abilities(self, model: str | None) -> str:
        """Say plainly, in Markdown, what the model was trained for, and what it does badly."""
        size = (4, 3)
        names = {"sot": "follow a box", "rsot": "find by words", "video_reg": "describe", "vqa": "answer questions"}
        cannot = [name for task, name in names.items() if self.engine.untaught(model, task, size)]
        can = {task: name for task, name in names.items() if name not in cannot}
        if not can:
            return "This model was **not** trained on ordinary video: what it says of one means nothing."
        cautions = {name: self.engine.caution(model, task) for task, name in can.items()}
        weak = "".join(f" To {name}: {text}." for name, text in cautions.items() if text)
        if not cannot:
            return f"This model was trained to follow a box, find by words, describe and answer questions.{weak}"
        return (
            f"This model was trained to **{', '.join(can.values())}**, and **not** to **{', '.join(cannot)}**: what "
            f"it says there means nothing.{weak} Larger checkpoints can do more: `elysium demo --model DIR`."
        )
