"""Stage 2: phrases are looked for in the first, the middle and the last frame (paper, section 3, step 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .items import PoisonedVideoError
from .noun_chunks import Phrase
from .protocols import Detections, Grounder

__all__ = ["Grounded", "GroundingConfig", "ground_phrases"]

PLACES = ("first", "middle", "last")


@dataclass(frozen=True)
class GroundingConfig:
    """When a phrase counts as found.

    Attributes:
        min_confidence: the surest box must score above it in all three frames (paper: 0.6).
        batch_size: pairs of frame and phrase that the grounder sees together.
    """

    min_confidence: float = 0.6
    batch_size: int = 12

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence < 1:
            raise ValueError(f"grounding.min_confidence={self.min_confidence} must lie in [0, 1).")
        if self.batch_size < 1:
            raise ValueError(f"grounding.batch_size={self.batch_size} must be at least 1.")


@dataclass(frozen=True)
class Grounded:
    """A phrase that was found in all three frames.

    Attributes:
        phrase: the words.
        boxes: (3, 4) the surest box in the first, middle and last frame.
        scores: (3,).
        in_first: all that was found in the first frame, for `unique.py`.
    """

    phrase: Phrase
    boxes: np.ndarray
    scores: np.ndarray
    in_first: Detections


def ground_phrases(
    grounder: Grounder, frames: Sequence[np.ndarray], phrases: Sequence[Phrase], config: GroundingConfig
) -> tuple[list[Grounded], Counter[str]]:
    """Look for every phrase in the three frames; a phrase missed in one frame is not looked for in the next.

    Args:
        grounder: who looks.
        frames: first, middle and last frame of the video.
        phrases: what to look for.
        config: when it counts as found.

    Returns:
        The phrases found, and reason -> number of those dropped.

    Raises:
        PoisonedVideoError: the grounder raised, or returned numbers that are not finite or too few answers.
    """
    dropped, left = Counter[str](), list(phrases)
    found: dict[int, list[Detections]] = {position: [] for position in range(len(left))}
    for place, frame in zip(PLACES, frames, strict=True):
        asked = list(found)
        for start in range(0, len(asked), config.batch_size):
            batch = asked[start : start + config.batch_size]
            for position, detections in zip(batch, _ask(grounder, frame, [left[p] for p in batch]), strict=True):
                if len(detections.scores) and detections.scores[0] > config.min_confidence:
                    found[position].append(detections)
                    continue
                dropped[f"grounding.{place}_frame"] += 1
                del found[position]
    return [_grounded(left[position], three) for position, three in found.items()], dropped


def _ask(grounder: Grounder, frame: np.ndarray, phrases: list[Phrase]) -> list[Detections]:
    try:
        answers = grounder.ground([frame] * len(phrases), [phrase.text for phrase in phrases])
    except Exception as error:  # whatever a foreign model raises, the run goes on
        raise PoisonedVideoError("grounder_error", f"{type(error).__name__}: {error}") from error
    if len(answers) != len(phrases):
        raise PoisonedVideoError("grounder_error", f"{len(answers)} answers to {len(phrases)} questions")
    for answer in answers:
        if not (np.isfinite(answer.boxes).all() and np.isfinite(answer.scores).all()):
            raise PoisonedVideoError("grounder_nan", "the grounder returned a number that is not finite")
    return answers


def _grounded(phrase: Phrase, three: list[Detections]) -> Grounded:
    boxes = np.stack([detections.boxes[0] for detections in three])
    return Grounded(phrase, boxes, np.array([detections.scores[0] for detections in three]), three[0])
