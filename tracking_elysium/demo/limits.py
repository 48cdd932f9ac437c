"""What one visitor of the demo may ask for."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Limits:
    """Bounds that keep a shared machine usable; each is a flag of `elysium demo`.

    Attributes:
        upload_mb: size of an upload, in MB (10^6 bytes).
        seconds: length of a video.
        frames: frames of a video.
        megapixels: pixels of one frame, in millions.
        objects: objects per video.
        job_seconds: time one job may take; what is tracked by then is kept.
        queue: jobs that may wait; the next visitor is asked to come back.
        concurrency: jobs that run at the same time through the one model.
        keep_minutes: how long an idle visitor's files are kept.
    """

    upload_mb: int = 100
    seconds: int = 60
    frames: int = 1800
    megapixels: int = 9
    objects: int = 8
    job_seconds: int = 300
    queue: int = 16
    concurrency: int = 1
    keep_minutes: int = 30

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"`{one.name}`={value!r} must be a whole number from 1 on.")

    def sentence(self) -> str:
        """Say the limits that a visitor meets."""
        return (
            f"Up to {self.upload_mb} MB, {self.seconds} s, {self.frames} frames, {self.megapixels} megapixels per "
            f"frame and {self.objects} objects; a job stops after {self.job_seconds} s and keeps what it has. Your "
            f"files are removed two minutes after you leave, or {self.keep_minutes} minutes after your last step."
        )
