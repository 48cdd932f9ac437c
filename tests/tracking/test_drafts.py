"""What is drafted: boxes moved on, and what the model said of an earlier draft."""

import pytest

from tracking_elysium.answer_format import AnswerFormats
from tracking_elysium.drafted_guesses import Drafter, Motion

from .scripted import answer_ids
from .tokenizers_of_all_kinds import KINDS, processor_of


def drafter_of(processor, num_frames, known=()):
    answer_format = AnswerFormats(processor, {processor.tokenizer.eos_token_id}).of(num_frames)
    return Drafter(answer_format, processor.tokenizer, known)


# boxes known by frame, guessed frame, its numbers so far, the guess
MOTIONS = [
    ([(0, (10, 20, 30, 40))], 1, (), (10, 20, 30, 40)),  # nothing but one box: it stays
    ([(0, (10, 20, 30, 40)), (1, (12, 20, 32, 40))], 2, (), (14, 20, 34, 40)),  # goes on as it went
    ([(-2, (10, 20, 30, 40)), (0, (14, 20, 34, 40))], 1, (), (16, 20, 36, 40)),  # two frames apart
    ([(0, (10, 20, 30, 40))], 1, (15,), (15, 20, 35, 40)),  # x2 follows x1
    ([(0, (10, 20, 30, 40))], 1, (15, 18, 36), (15, 18, 36, 38)),  # and y2 follows y1
]


@pytest.mark.parametrize(("known", "frame", "so_far", "expected"), MOTIONS)
def test_boxes_move_on(known, frame, so_far, expected):
    assert tuple(round(v) for v in Motion(known).guess(frame, so_far)) == expected


def test_a_hint_is_the_guess_until_it_is_worse_than_motion():
    known = [(0, (10, 20, 30, 40)), (1, (12, 20, 32, 40))]
    motion = Motion(known, expected=[(2, (50, 60, 70, 80)), (3, (16, 20, 36, 40))])
    assert motion.guess(2) == [50, 60, 70, 80]
    assert motion.guess(2, (51,)) == [51, 60, 71, 80]  # x2 follows x1
    motion.note(2, (14, 20, 34, 40))
    assert motion.guess(3) == [16, 20, 36, 40]  # motion says so, too
    assert Motion(known, expected=[(5, (1, 2, 3, 4))]).guess(2) == [14, 20, 34, 40]  # no hint for this frame
    assert Motion([], expected=[(0, (1, 2, 3, 4))]).guess(0) == [1, 2, 3, 4]  # nothing known but the hint


# text drafted, text that the model put in its place token by token, the next draft after "Frame 1: [34,"
REJECTED = [
    (
        "34,40,51,67], Frame 2: [34,40,51,67]",
        "35,41,53,68], Frame 2: [36,42,54,69]",
        "41,53,68], Frame 2: [36,42,54,69]",
    ),
    # a first digit that it did not want: the second was said after the wrong one, so the nearest number counts
    (
        "34,40,51,67], Frame 2: [34,40,51,67]",
        "34,37,51,67], Frame 2: [34,40,51,67]",
        "{3x},51,67], Frame 2: [34,40,51,67]",
    ),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("drafted", "proposed", "expected"), REJECTED)
def test_what_the_model_said_of_a_wrong_draft_is_the_next_one(kind, drafted, proposed, expected):
    processor = processor_of(kind)
    draft, other = (answer_ids(processor, f"Frame 1: [{text}") for text in (drafted, proposed))
    drafter = drafter_of(processor, 3, known=[(0, (34, 40, 51, 67))])
    drafter.note_rejected(drafter.cursor.copy(), draft, other[: len(draft)])
    for token in draft:  # up to the second number
        if drafter.cursor.literal == 1 and drafter.cursor.in_number:
            break
        drafter.feed(token)
    text = processor.tokenizer.decode(drafter.draft(200))
    split = len(processor.tokenizer("37", add_special_tokens=False)["input_ids"]) > 1
    assert text.strip().startswith(expected.replace("{3x}", "39" if split else "37"))


def test_nothing_known_nothing_drafted_but_the_text():
    processor = processor_of("characters")
    drafter = drafter_of(processor, 2)
    assert processor.tokenizer.decode(drafter.draft(50)).strip() == "Frame 1: ["
