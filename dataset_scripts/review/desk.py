"""What the page shows of a session, and what its buttons and keys do; the page itself only lays it out."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..construction.rows import Trajectory
from .clip import draw_clip, draw_way
from .decisions import fingerprint
from .session import ReviewSession

__all__ = ["KEYS", "ReviewDesk", "Shown"]

# Key -> what it does.
KEYS = {"a": "accept", "r": "reject", "e": "edit", "b": "back"}


@dataclass(frozen=True)
class Shown:
    """What is on the page.

    Attributes:
        clip: mp4 with the box drawn, None where there is nothing to show.
        way: picture with the way of the object.
        title: the expression and what is known of the video, Markdown.
        phrase: the expression, to be edited.
        summary: progress and agreement, Markdown.
        message: what went wrong, or "".
    """

    clip: str | None
    way: Image.Image | None
    title: str
    phrase: str
    summary: str
    message: str = ""


class ReviewDesk:
    """Serves sessions of any number of reviewers over the same rows and log.

    Args:
        rows: to review.
        videos: folder that their videos are relative to.
        log: file of decisions.
        clips: folder for the clips that are drawn.
        seed: of the order.
    """

    def __init__(
        self,
        rows: Sequence[Trajectory],
        videos: str | os.PathLike[str],
        log: str | os.PathLike[str],
        clips: str | os.PathLike[str],
        seed: int = 0,
    ) -> None:
        self.rows, self.videos, self.log, self.clips, self.seed = rows, videos, log, Path(clips), seed

    def begin(self, reviewer: str) -> tuple[ReviewSession | None, Shown]:
        """Start, or take up again, the session of a reviewer."""
        try:
            session = ReviewSession(self.rows, self.log, reviewer, self.seed)
        except ValueError as error:
            return None, Shown(None, None, "", "", "", str(error))
        return session, self.show(session)

    def act(self, session: ReviewSession | None, action: str, phrase: str) -> tuple[ReviewSession | None, Shown]:
        """Do what a button says (a value of `KEYS`), and show what comes next."""
        if session is None:
            return None, Shown(None, None, "", "", "", "Write your name and press Start.")
        message = ""
        try:
            if action == "back":
                session.back()
            else:
                session.decide(action, phrase)
        except (ValueError, OSError) as error:
            message = f"Not saved: {error}"
        return session, self.show(session, message)

    def show(self, session: ReviewSession, message: str = "") -> Shown:
        """Draw the session's current trajectory; a video that cannot be read is a message, and may be rejected."""
        row, summary = session.current, "\n".join(f"- {html.escape(line)}" for line in session.summary())
        if row is None:
            return Shown(None, None, "### All decided. Thank you.", "", summary, message)
        made = session.decided().get(row.id)
        title = f"### {html.escape(row.phrase)}\n\n{html.escape(row.caption or '')}\n\n"
        title += f"`{row.id}`, {len(row.frame_indices)} frames, {row.source}"
        if made is not None:
            title += f"; you said: **{made.verdict}**"
        phrase = made.phrase if made is not None and made.phrase else row.phrase
        try:
            clip = draw_clip(row, self.videos, self.clips / f"{fingerprint(row)}.mp4")
            return Shown(str(clip), draw_way(row, self.videos), title, phrase, summary, message)
        except (ValueError, OSError) as error:
            return Shown(None, None, title, phrase, summary, message or f"This video cannot be shown: {error}")
