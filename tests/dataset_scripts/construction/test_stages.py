"""The stages over plain records: what is dropped, and under which reason."""

import numpy as np
import pytest

from dataset_scripts.construction.consistency import ConsistencyConfig, overlaps, why_inconsistent
from dataset_scripts.construction.drift import DriftConfig, innovations, why_drifted
from dataset_scripts.construction.grounding import GroundingConfig, ground_phrases
from dataset_scripts.construction.items import PoisonedVideoError
from dataset_scripts.construction.noun_chunks import NounChunkConfig, Phrase, load_spacy, split_caption
from dataset_scripts.construction.protocols import Detections
from dataset_scripts.construction.tracking import TrackingConfig, follow_objects

FRAME = np.zeros((8, 8, 3), np.uint8)
BOX = np.array([0.2, 0.2, 0.4, 0.4])


@pytest.fixture(scope="module")
def nlp():
    pytest.importorskip("spacy")
    return load_spacy("en_core_web_sm")


@pytest.mark.parametrize(
    ("caption", "kept", "reason"),
    [
        ("A young woman is walking.", ["A young woman"], None),
        ("Two dogs are running.", [], "noun_chunks.plural"),
        ("A family is eating.", [], "noun_chunks.group"),
        ("Love is near the red cup.", ["the red cup"], "noun_chunks.virtual"),
        ("She is near a white cat.", ["a white cat"], "noun_chunks.pronoun"),
    ],
)
def test_phrases(nlp, caption, kept, reason):
    found = split_caption(nlp, caption, NounChunkConfig())
    assert [phrase.text for phrase in found.phrases] == kept
    assert list(found.dropped) == ([reason] if reason else [])


def test_virtual_words_come_from_two_lists_that_settings_change(nlp):
    caption = "Nostalgia is near the red cup."
    for settings, kept in (
        ({}, ["the red cup"]), ({"abstract_nouns": False}, ["Nostalgia", "the red cup"]),
        ({"virtual_words_remove": ["Nostalgia"], "virtual_words_add": ["cup"]}, ["Nostalgia"]),
    ):  # fmt: skip
        assert [phrase.text for phrase in split_caption(nlp, caption, NounChunkConfig(**settings)).phrases] == kept


def test_no_list_has_a_thing_that_a_box_can_follow():
    things = "ball bicycle bird boat book bottle bus camel can car cat chair child coin cow cup dancer dog door drone "
    things += (
        "drummer face fish flower fox frog girl glass hammer hand hat helicopter horse kite knife lamp letter man "
    )
    things += (
        "monkey mouse paper parachute player rabbit rainbow ring robot runner shark ship shoe sign singer snake star "
    )
    things += "statue surfer tiger tower train tree truck umbrella waterfall wheel wolf woman worm wrench writer zebra"
    words = NounChunkConfig()
    assert not set(things.split()) & (words.virtual_words | words.group_words)
    assert len(words.virtual_words) > 3000 and all(word == word.lower() for word in words.virtual_words)


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("", "caption.empty"),
        ("12 !?", "caption.empty"),
        ("一只猫", "caption.other_script"),
        ("a " * 9999, "caption.too_long"),
    ],
)
def test_captions_of_no_use(caption, reason):
    assert split_caption(None, caption, NounChunkConfig()).caption_reason == reason


class Grounder:
    def __init__(self, scores):
        self.scores = iter(scores)

    def ground(self, frames, phrases):
        score = next(self.scores)
        return [Detections.sorted([BOX] if score else [], [score] if score else []) for _ in phrases]


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ((0.7, 0.7, 0.7), None),
        ((0.6, 0.7, 0.7), "grounding.first_frame"),
        ((0.7, 0.0, 0.7), "grounding.middle_frame"),
        ((0.7, 0.7, 0.5), "grounding.last_frame"),
    ],
)
def test_grounding(scores, reason):
    found, dropped = ground_phrases(Grounder(scores), [FRAME] * 3, [Phrase("a cat", "cat")], GroundingConfig())
    assert len(found) == (reason is None) and list(dropped) == ([reason] if reason else [])
    with pytest.raises(PoisonedVideoError, match="grounder_nan"):
        ground_phrases(Grounder([np.nan]), [FRAME] * 3, [Phrase("a cat", "cat")], GroundingConfig())


class Tracker:
    def __init__(self, answers):
        self.answers = answers

    def new(self):
        return Tracker(iter(self.answers))

    def init(self, frame, box):
        pass

    def update(self, frame):
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ((BOX, 0.81), None),
        ((BOX, 0.8), "tracking.confidence"),
        ((BOX, np.nan), "tracking.not_finite"),
        ((BOX * np.nan, 1.0), "tracking.lost"),
        ((BOX[[2, 1, 0, 3]], 0.9), "tracking.empty_box"),
    ],
)
def test_tracking(second, reason):
    (track,) = follow_objects(Tracker([(BOX, 0.9), second]), [FRAME] * 3, BOX[None], TrackingConfig())
    assert track.reason == reason and len(track.boxes) == (3 if reason is None else 2)


def test_a_tracker_that_raises_puts_the_video_aside():
    with pytest.raises(PoisonedVideoError, match="tracker_error: RuntimeError: no"):
        follow_objects(Tracker([RuntimeError("no")]), [FRAME] * 3, BOX[None], TrackingConfig())


def test_a_jump_is_drift_and_steady_motion_is_not():
    pytest.importorskip("filterpy")
    boxes = BOX + np.arange(20)[:, None] * 0.01
    times, config = np.arange(20) / 25, DriftConfig()
    assert why_drifted(innovations(boxes, (100, 100), times, config), config) is None
    boxes[10:, [0, 2]] += 0.4  # two sides of the box
    squared = innovations(boxes, (100, 100), times, config)
    assert squared.argmax() == 9 and why_drifted(squared, config) == "drift.innovation"


@pytest.mark.parametrize(
    ("shifts", "reason"),
    [((0.0, 0.1), None), ((0.15, 0.0), "consistency.middle_frame"), ((0.0, 0.15), "consistency.last_frame")],
)
def test_consistency(shifts, reason):
    tracked = np.stack([BOX + np.array([s, 0, s, 0]) for s in shifts])
    assert why_inconsistent(overlaps(np.stack([BOX, BOX]), tracked), ConsistencyConfig()) == reason
