"""The questions we ask: one `Task` per job of the paper's section 3, our own wordings, and messages built from them.

Training draws a wording with a random generator, evaluation uses the first wording of the list, and `prompt=`
overrides both. Slots: `{box}` (the box as text, with " in frame i" after it when that frame is not the first),
`{expression}` and `{question}`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import Any, Protocol

from .boxes import Rounding, format_box, format_boxes


class Task(str, Enum):
    """What is asked of the model (paper, section 3.1); the value is the name used in records, configs and the CLI."""

    SOT = "sot"  # box in one frame -> box in every frame
    RSOT = "rsot"  # expression -> box in every frame
    VIDEO_REG = "video_reg"  # box in one frame of a clip -> description
    REC = "rec"  # expression and one image -> box
    REG = "reg"  # box and one image -> description
    VQA = "vqa"  # question on a video or an image -> short answer
    CHAT = "chat"  # anything else in words


class RandomSource(Protocol):
    """What we need of a generator: `random.Random` and `numpy.random.Generator` both have it."""

    def random(self) -> float:
        """Return a float in [0, 1)."""


IMAGE_PLACEHOLDERS = ("<image>", "<video>")  # reserved in prompts: they stand for pixels, never for user text

# The first wording of each list is the fixed evaluation prompt.
TEMPLATES: dict[Task, tuple[str, ...]] = {
    Task.SOT: (
        "Track the object at {box} and give its bounding box in every frame.",
        "Follow the object inside {box} and write down its box for each frame.",
        "The target is at {box}. Where is it in every frame?",
        "Starting from the box {box}, report the position of this object frame by frame.",
        "Given the object at {box}, output its coordinates throughout the clip.",
        "Keep your eyes on whatever is at {box} and list one box per frame.",
        "An object is marked by {box}. Trace it through all frames.",
        "Please locate the object at {box} in each of these frames.",
        "I have marked something with {box}. Tell me where it goes.",
        "Which boxes contain the object at {box} as the video plays on?",
        "Using {box} as the initial position, track this target to the end of the clip.",
        "Produce the trajectory of the object found at {box}.",
        "Take the region {box} as the target and return its bounding box for all frames.",
        "How does the object at {box} move? Answer with its box in each frame.",
        "Find the thing at {box} again in every frame shown here.",
        "Write the per-frame bounding boxes of the target given by {box}.",
        "The region {box} shows one object. Where can it be seen in each frame?",
        "Do single object tracking for the target at {box}.",
        "Mark the object from {box} in all the frames of this video.",
        "Beginning with {box}, give the location of the same object over time.",
        "Box to follow: {box}. List where it is, frame after frame.",
        "Could you track what lies within {box} for the whole sequence?",
    ),
    Task.RSOT: (
        "Find {expression} and give its bounding box in every frame.",
        "Track {expression} through the video and write its box for each frame.",
        "Where is {expression} in every frame?",
        "Please follow {expression} and report its position frame by frame.",
        "Locate {expression} in each of these frames.",
        "Output the coordinates of {expression} throughout the clip.",
        "Look for {expression} and list one box per frame.",
        "Give me the trajectory of {expression}.",
        "The target is {expression}. Trace it through all frames.",
        "Return the bounding boxes of {expression} for the whole sequence.",
        "Which boxes contain {expression} as the video plays on?",
        "How does {expression} move? Answer with its box in each frame.",
        "I am interested in {expression}. Tell me where it goes.",
        "Write the per-frame bounding boxes of {expression}.",
        "Keep your eyes on {expression} and mark it in all the frames.",
        "From the first frame to the last, where can {expression} be seen?",
        "Show the location of {expression} over time.",
        "Do referring object tracking for this description: {expression}.",
        "Someone asks you to watch {expression}. Give its box in every frame.",
        "Object to follow: {expression}. List where it is, frame after frame.",
        "Could you track {expression} until the clip ends?",
        "Detect {expression} in the first frame, then follow it to the end.",
    ),
    Task.VIDEO_REG: (
        "Describe the object at {box}.",
        "What is the object inside {box}?",
        "Give a short phrase that tells the object at {box} apart from the others.",
        "Which object of this video is shown at {box}?",
        "Please put the thing at {box} into words.",
        "Name and describe what lies within {box}.",
        "Write a referring expression for the object at {box}.",
        "Tell me what can be seen at {box}.",
        "The box {box} marks one object of the clip. What is it?",
        "How would you refer to the object at {box}?",
        "Caption the object that {box} encloses.",
        "Look at {box} and describe its content briefly.",
        "What does the region {box} of this video contain?",
        "Identify the object located at {box}.",
        "Say in a few words which object is at {box}.",
        "Considering the whole clip, describe the target at {box}.",
        "I marked something with {box}. What did I mark?",
        "Provide a description that fits only the object at {box}.",
        "Someone points at {box}. What are they pointing at?",
        "Summarise the look and movement of the object at {box}.",
        "Explain in one phrase what the target given by {box} is.",
    ),
    Task.REC: (
        "Where is {expression}? Answer with its bounding box.",
        "Find {expression} and give its bounding box.",
        "Output the box of {expression}.",
        "Please locate {expression} in this image.",
        "Which region shows {expression}?",
        "Give the coordinates of {expression}.",
        "Point out {expression} with one box.",
        "Look for {expression} and write down where it is.",
        "Return the bounding box that encloses {expression}.",
        "The target is {expression}. Mark it in the picture.",
    ),
    Task.REG: (
        "Describe the object at {box}.",
        "What is inside {box}?",
        "Give a short phrase for the object at {box}.",
        "Please say what can be seen at {box}.",
        "Write an expression that fits only the object at {box}.",
        "Which object of this image is at {box}?",
        "Name the thing that {box} encloses.",
        "How would you refer to the region {box}?",
        "Look at {box} and tell me what it shows.",
        "Caption the part of the picture at {box}.",
    ),
    Task.VQA: (
        "{question}",
        "{question} Answer briefly.",
        "{question} Reply with a word or a short phrase.",
        "Look closely and answer: {question}",
        "Question: {question}",
        "Here is a question about what you see. {question}",
        "Please answer this question in few words. {question}",
        "Judging by what is shown, {question}",
        "{question} Keep the answer short.",
    ),
    Task.CHAT: (
        "{question}",
        "Please help me with this: {question}",
        "Take a look at what is shown. {question}",
        "{question} Use what you can see.",
        "Here is my request: {question}",
        "Considering what is shown, {question}",
        "{question} Please be helpful.",
        "After looking at it carefully, respond to this: {question}",
        "I would like to know more. {question}",
    ),
}

# The one thing that each task is asked with.
NEEDS: dict[Task, str] = {
    Task.SOT: "box",
    Task.RSOT: "expression",
    Task.VIDEO_REG: "box",
    Task.REC: "expression",
    Task.REG: "box",
    Task.VQA: "question",
    Task.CHAT: "question",
}
IMAGE_TASKS = (Task.REC, Task.REG)  # asked of exactly one image
TRACKING_TASKS = (Task.SOT, Task.RSOT)  # answered with one box per frame
_SLOT = re.compile(r"\{(\w+)\}")


def render_prompt(
    task: Task | str,
    box: Sequence[float] | str | None = None,
    expression: str | None = None,
    question: str | None = None,
    prompt: str | None = None,
    rng: RandomSource | None = None,
    frame_of_box: int = 1,
    box_rounding: Rounding = "floor",
) -> str:
    """Write the question of a task.

    Args:
        task: a `Task` or its value.
        box: relative (x1, y1, x2, y2), or the box already written as text; for SOT, VIDEO_REG and REG.
        expression: words that name the object; for RSOT and REC.
        question: free text; for VQA and CHAT.
        prompt: own template instead of ours; it must hold the slot of the task (`{box}`, `{expression}` or
            `{question}`).
        rng: draws one of our wordings. None: the fixed evaluation wording.
        frame_of_box: number of the frame (from 1) in which `box` holds; named in the question when it is not 1.
        box_rounding: see `boxes.format_box`.

    Returns:
        The question in words, without image placeholders.

    Raises:
        ValueError: the task is unknown, its argument is missing or empty, an argument of another task is given, the
            template lacks its slot or has an unknown one, or a text holds an image placeholder.
    """
    task = _check_task(task)
    need = NEEDS[task]
    given = {"box": box, "expression": expression, "question": question}
    for name, value in given.items():
        if name != need and value is not None:
            raise ValueError(f"`{name}` has no place in a {task.value} prompt, which is asked with `{need}`; drop it.")
    value = given[need]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueError(f"`{need}` is {'missing' if value is None else 'empty'}; a {task.value} prompt needs it.")
    if need == "box":
        if frame_of_box < 1:
            raise ValueError(f"`frame_of_box`={frame_of_box} is not a frame number; frames count from 1.")
        value = value if isinstance(value, str) else format_box(value, box_rounding)
        value = value if frame_of_box == 1 else f"{value} in frame {frame_of_box}"
    words = check_text(value, need)
    if prompt is not None:
        template = _check_template(prompt, need)
    else:
        wordings = TEMPLATES[task]
        template = wordings[0 if rng is None else int(rng.random() * len(wordings))]
    return template.replace("{" + need + "}", words.strip())


def render_answer(
    task: Task | str,
    boxes: Sequence[Sequence[float]] | None = None,
    valid: Sequence[bool] | None = None,
    text: str | None = None,
    final_period: bool = False,
    box_rounding: Rounding = "floor",
) -> str:
    """Write the answer that training teaches.

    Args:
        task: a `Task` or its value.
        boxes: relative boxes of shape (F, 4) for the tracking tasks, (1, 4) or (4,) for REC.
        valid: shape (F,), frames in which the object is visible. None: all.
        text: the answer in words, for every other task.
        final_period: end a tracking answer, or words without an end mark, with a period, as the released training
            data does in tracking and Video-REG.
        box_rounding: see `boxes.format_box`.

    Returns:
        The answer, without the end-of-sequence token.

    Raises:
        ValueError: what the task is answered with is missing or empty, or is not a box.
    """
    task = _check_task(task)
    if task in TRACKING_TASKS or task is Task.REC:
        if boxes is None or len(boxes) == 0:
            raise ValueError(f"`boxes` is missing or empty; a {task.value} answer needs it.")
        if task is Task.REC:
            return format_box(boxes[0] if len(boxes) == 1 else boxes, box_rounding)
        answer = format_boxes(boxes, valid, rounding=box_rounding)
        return answer + "." if final_period else answer
    if not text or not text.strip():
        raise ValueError(f"`text` is missing or empty; a {task.value} answer needs it.")
    answer = check_text(text.strip(), "text")
    return answer + "." if final_period and not answer.endswith((".", "!", "?")) else answer


def build_messages(
    task: Task | str,
    num_frames: int,
    box: Sequence[float] | str | None = None,
    expression: str | None = None,
    question: str | None = None,
    prompt: str | None = None,
    rng: RandomSource | None = None,
    frame_of_box: int = 1,
    answer: str | None = None,
    system: str | None = None,
    box_rounding: Rounding = "floor",
) -> list[dict[str, Any]]:
    """Build the conversation of one sample for `apply_chat_template`.

    Args:
        task: a `Task` or its value.
        num_frames: F, the number of images shown; 0 only for CHAT.
        box: see `render_prompt`, as `expression`, `question`, `prompt`, `rng`, `frame_of_box` and `box_rounding`.
        expression: see `render_prompt`.
        question: see `render_prompt`.
        prompt: see `render_prompt`.
        rng: see `render_prompt`.
        frame_of_box: see `render_prompt`; at most `num_frames`.
        answer: adds an assistant turn with this text (training).
        system: replaces the Vicuna system message; the empty string leaves it out.
        box_rounding: see `render_prompt`.

    Returns:
        Messages whose user turn holds `num_frames` image parts and one text part.

    Raises:
        ValueError: see `render_prompt`; or the number of frames does not fit the task.
    """
    task = _check_task(task)
    if num_frames < (0 if task is Task.CHAT else 1) or (task in IMAGE_TASKS and num_frames != 1):
        want = "exactly 1" if task in IMAGE_TASKS else "at least 1"
        raise ValueError(f"`num_frames`={num_frames} does not fit task {task.value}; pass {want}.")
    if num_frames and frame_of_box > num_frames:
        raise ValueError(f"`frame_of_box`={frame_of_box} is past the last frame; pass 1 to {num_frames}.")
    text = render_prompt(task, box, expression, question, prompt, rng, frame_of_box, box_rounding)
    content: list[dict[str, Any]] = [{"type": "image"} for _ in range(num_frames)]
    content.append({"type": "text", "text": text})
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": check_text(system, "system")}]})
    if answer is not None:
        messages.append({"role": "assistant", "content": [{"type": "text", "text": check_text(answer, "answer")}]})
    return messages


def check_text(
    text: object, name: str, reserved: Sequence[str] = IMAGE_PLACEHOLDERS, special: Sequence[str] = ()
) -> str:
    """Return `text`, or raise ValueError when it cannot be part of a conversation.

    Args:
        text: what a user wrote.
        name: of the argument.
        reserved: placeholders that stand for pixels.
        special: tokens of the tokenizer that begin or end a conversation, or mark something in it.

    Raises:
        ValueError: it is no string, holds one of those, or half a surrogate pair (bytes that are no UTF-8).
    """
    if not isinstance(text, str):
        raise ValueError(f"`{name}` is a {type(text).__name__}; pass a string.")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError(f"`{name}`={text!a} is no valid Unicode text; write it in UTF-8, in a terminal that uses it.")
    for token in reserved:
        if token in text:
            raise ValueError(
                f"`{name}` contains {token!r}, which is reserved for the frames of the video; write it differently."
            )
    for token in special:
        if token in text:
            raise ValueError(f"`{name}` contains {token!r}, a special token of the model; leave it out.")
    return text


_OF_TASK = {Task.VQA: "answer questions", Task.CHAT: "talk", Task.VIDEO_REG: "describe objects", Task.REG: "describe"}


def check_trained_on(trained_on: Any) -> None:
    """Raise ValueError unless `trained_on` is None or has the form that `ElysiumProcessor` describes."""
    if trained_on is None:
        return
    known = ("material", "tasks", "aspect_ratio", "cautions")
    if not isinstance(trained_on, dict) or set(trained_on) - set(known):
        raise ValueError(f"`trained_on`={trained_on!r} must be a mapping with the keys {', '.join(known)}, or None.")
    if not isinstance(trained_on.get("material", ""), str):
        raise ValueError(f"`trained_on`: `material`={trained_on['material']!r} must be a text, e.g. 'drawn shapes'.")
    tasks = trained_on.get("tasks", [])
    if not isinstance(tasks, list | tuple):
        raise ValueError(f"`trained_on`: `tasks`={tasks!r} must be a list of tasks.")
    cautions = trained_on.get("cautions", {})
    if not isinstance(cautions, dict) or not all(isinstance(text, str) for text in cautions.values()):
        raise ValueError(f"`trained_on`: `cautions`={cautions!r} must be a mapping of tasks to sentences.")
    for task in (*tasks, *cautions):
        _check_task(task)
    ratio = trained_on.get("aspect_ratio", (1.0, 1.0))
    numbers = isinstance(ratio, list | tuple) and all(type(value) in (int, float) for value in ratio)
    if not numbers or len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
        raise ValueError(
            f"`trained_on`: `aspect_ratio`={ratio!r} must be the lowest and the highest width over height."
        )


def untaught(trained_on: dict[str, Any], task: Task, width: int, height: int) -> str | None:
    """Say what a checkpoint has not been trained for, see `ElysiumProcessor.untaught`; None where nothing is known."""
    material = trained_on.get("material", "other material")
    if "tasks" in trained_on and task not in map(Task, trained_on["tasks"]):
        return (
            f"this checkpoint was not trained to {_OF_TASK.get(task, 'find objects')} (task {task.value}), so what it "
            f"says means nothing; it was trained on {material} for {', '.join(trained_on['tasks'])}. Take another "
            "checkpoint for this."
        )
    low, high = trained_on.get("aspect_ratio", (0.0, float("inf")))
    if not low * 0.98 <= width / height <= high * 1.02:  # a pixel more or less is nothing new
        return (
            f"this checkpoint was trained on {material} only, and frames of {width} x {height} pixels are none of "
            "these: on other video its answers mean nothing. Take another checkpoint for it, see docs/track.md."
        )
    return None


def _check_task(task: Task | str) -> Task:
    try:
        return Task(task.lower())
    except (AttributeError, ValueError):
        allowed = ", ".join(repr(t.value) for t in Task)
        raise ValueError(f"`task`={task!r} is unknown; use one of {allowed}.") from None


def _check_template(prompt: str, need: str) -> str:
    slots = _SLOT.findall(check_text(prompt, "prompt"))
    if need not in slots:
        raise ValueError(f"`prompt`={prompt!r} lacks the slot {{{need}}}; put it where the {need} should stand.")
    unknown = sorted(set(slots) - {need})
    if unknown:
        raise ValueError(f"`prompt`={prompt!r} has the unknown slot {{{unknown[0]}}}; use only {{{need}}}.")
    return prompt
