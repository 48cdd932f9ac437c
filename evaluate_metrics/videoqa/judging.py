"""Many answers before a judge: cached on disk, several at a time, bounded retries; nothing is ever dropped."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .judge import Judge, JudgeUnavailableError
from .verdicts import PROMPT, UnreadableReplyError, Verdict, check_prompt, make_messages, read_verdict

Messages = list[dict[str, str]]
logger = logging.getLogger(__name__)

LONGEST_WAIT_S = 60.0
CHARACTERS_PER_TOKEN = 4.0  # of English text; for estimates only
REPLY_TOKENS = 16
GIVE_UP_AFTER = 16  # items in a row of which the judge answered none
UNAVAILABLE = ("down", "rate_limited", "refused")


@dataclass(frozen=True)
class JudgedItem:
    """What became of one item.

    Args:
        verdict: None where there is none.
        problem: None, or why there is none: `rate_limited`, `down`, `refused`, `nonsense` (no verdict in the reply),
            `answered_twice` (several that disagree).
        reply: The judge's last words, for problems of their own.
        attempts: Questions put to the judge, 0 where the cache knew.
    """

    verdict: Verdict | None
    problem: str | None
    reply: str = ""
    attempts: int = 0


class VerdictCache:
    """Replies that hold a verdict, one small JSON file each, written whole or not at all.

    Args:
        folder: Made where it is missing; None: nothing is kept.
    """

    def __init__(self, folder: str | Path | None):
        self.folder = None if folder is None else Path(folder)

    def _path(self, judge_name: str, messages: Messages) -> Path | None:
        if self.folder is None:
            return None
        key = hashlib.sha256(json.dumps([judge_name, messages]).encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.json"

    def get(self, judge_name: str, messages: Messages) -> str | None:
        """Return the reply, or None; a file that cannot be read is as good as none."""
        path = self._path(judge_name, messages)
        try:
            reply = None if path is None else json.loads(path.read_text(encoding="utf-8"))["reply"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return reply if isinstance(reply, str) else None

    def put(self, judge_name: str, messages: Messages, reply: str) -> None:
        """Keep a reply."""
        path = self._path(judge_name, messages)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
        entry = {"judge": judge_name, "messages": messages, "reply": reply}
        try:
            part.write_text(json.dumps(entry, ensure_ascii=False), encoding="utf-8")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def estimate(
    questions: Sequence[str],
    predictions: Sequence[str],
    references: Sequence[str],
    judge: Judge | None = None,
    cache: str | Path | None = None,
    usd_per_million_input: float | None = None,
    usd_per_million_output: float | None = None,
    prompt: str = PROMPT,
) -> dict[str, float | int | None]:
    """Say what judging will cost before anything is sent.

    Returns:
        `num_items`, `num_cached`, `num_calls` (without retries; equal items are asked once), `input_tokens` and
        `output_tokens` (from the number of characters, good to some 20 %), `usd` (None without prices).
    """
    check_prompt(prompt)
    store, items = VerdictCache(cache), list(zip(questions, references, predictions, strict=True))
    chats = {item: make_messages(*item, prompt) for item in items if item[2].strip()}
    new = {item for item, chat in chats.items() if judge is None or store.get(judge.name, chat) is None}
    tokens_in = int(sum(len(message["content"]) for item in new for message in chats[item]) / CHARACTERS_PER_TOKEN)
    tokens_out = REPLY_TOKENS * len(new)
    usd = None
    if usd_per_million_input is not None and usd_per_million_output is not None:
        usd = (tokens_in * usd_per_million_input + tokens_out * usd_per_million_output) / 1e6
    return {
        "num_items": len(items),
        "num_cached": sum(item in chats and item not in new for item in items),
        "num_calls": len(new),
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "usd": usd,
    }


def judge_all(
    judge: Judge,
    questions: Sequence[str],
    predictions: Sequence[str],
    references: Sequence[str],
    cache: str | Path | None = None,
    concurrency: int = 4,
    max_attempts: int = 4,
    first_wait_s: float = 1.0,
    sleep: Callable[[float], None] = time.sleep,
    on_item: Callable[[JudgedItem], None] | None = None,
    prompt: str = PROMPT,
    give_up_after: int = GIVE_UP_AFTER,
) -> list[JudgedItem]:
    """Judge N answers; every one of them comes back, in order, with a verdict or a named problem.

    Args:
        judge: See `Judge`.
        questions: N questions.
        predictions: N answers; an empty one is wrong without asking.
        references: N true answers.
        cache: Folder of verdicts; a run that was stopped goes on where it was. None: nothing is kept.
        concurrency: Questions under way at a time; 1 for a local model.
        max_attempts: Questions per item at most.
        first_wait_s: Seconds before the second attempt, doubled each time, with jitter; a judge's own Retry-After
            comes first. Never more than a minute.
        sleep: For tests.
        on_item: Called after each item, from the thread that judged it, for a progress bar.
        prompt: The question to the judge, see `make_messages`.
        give_up_after: So many items in a row to which the judge did not reply (down, rate-limited, refused: a wrong
            key) end the job: the rest is not sent, and has the same problem.

    Raises:
        ValueError: Counts that differ, or an option below 1.
    """
    if not len(questions) == len(predictions) == len(references):
        counts = f"{len(questions)} questions, {len(predictions)} predictions, {len(references)} references"
        raise ValueError(f"got {counts}: give the same number of each.")
    for name, value in (
        ("concurrency", concurrency),
        ("max_attempts", max_attempts),
        ("give_up_after", give_up_after),
    ):
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    check_prompt(prompt)
    store = VerdictCache(cache)
    jitter = random.Random(0)
    silence = Silence(judge.name, give_up_after)

    def one(item: tuple[str, str, str]) -> JudgedItem:
        messages = make_messages(*item, prompt)
        judged = _known(judge.name, messages, store) or silence.problem
        if judged is None:
            judged = _judge_one(judge, messages, store, max_attempts, first_wait_s, sleep, jitter)
            silence.note(judged)
        if on_item is not None:
            on_item(judged)
        return judged

    items = list(zip(questions, references, predictions, strict=True))
    asked = list(dict.fromkeys(item for item in items if item[2].strip()))
    with ThreadPoolExecutor(max_workers=concurrency) as pool:
        judged = dict(zip(asked, pool.map(one, asked), strict=True))
    return [judged.get(item, JudgedItem(Verdict(False, 0), None)) for item in items]


def _judge_one(
    judge: Judge,
    messages: Messages,
    store: VerdictCache,
    max_attempts: int,
    first_wait_s: float,
    sleep: Callable[[float], None],
    jitter: random.Random,
) -> JudgedItem:
    """Ask until there is a verdict, a refusal, the same unreadable reply again, or no attempt left."""
    verdict: Verdict | None = None
    problem, reply, attempt, unreadable = None, "", 0, set()
    for attempt in range(1, max_attempts + 1):
        wait = first_wait_s * 2 ** (attempt - 1) * (1 + 0.25 * jitter.random())
        try:
            reply = judge(messages)
        except JudgeUnavailableError as error:
            problem, reply = error.reason, str(error)
            if problem == "refused":  # a wrong key or model stays wrong
                break
            wait = error.retry_after_s if error.retry_after_s is not None else wait
        else:
            verdict, problem = _read(reply)
            if verdict is not None:
                store.put(judge.name, messages, reply)
            if verdict is not None or reply in unreadable:  # a judge that repeats itself will do so again
                break
            unreadable.add(reply)
            wait = 0.0  # it is there: no reason to wait
        if attempt < max_attempts and wait > 0:
            sleep(min(wait, LONGEST_WAIT_S))
    return JudgedItem(verdict, problem, reply, attempt)


class Silence:
    """Notices a judge that does not reply any more; shared by the threads of one job.

    Args:
        judge_name: For the message.
        give_up_after: Items in a row without a reply.
    """

    def __init__(self, judge_name: str, give_up_after: int):
        self.judge_name, self.give_up_after = judge_name, give_up_after
        self.problem: JudgedItem | None = None  # what the items that are not sent any more have
        self._in_a_row = 0
        self._lock = threading.Lock()

    def note(self, judged: JudgedItem) -> None:
        """Count an item that was sent."""
        with self._lock:
            self._in_a_row = self._in_a_row + 1 if judged.problem in UNAVAILABLE else 0
            if self._in_a_row < self.give_up_after or self.problem is not None:
                return
            self.problem = JudgedItem(None, judged.problem, f"not sent, after {self._in_a_row} others: {judged.reply}")
            logger.warning(
                "the judge %s did not reply to %d items in a row (%s): nothing more is sent. With a cache, running "
                "again goes on from here.",
                self.judge_name,
                self._in_a_row,
                judged.reply,
            )


def _known(judge_name: str, messages: Messages, store: VerdictCache) -> JudgedItem | None:
    """Look an item up in the cache."""
    reply = store.get(judge_name, messages) or ""
    verdict, _ = _read(reply)
    return None if verdict is None else JudgedItem(verdict, None, reply)


def _read(reply: str) -> tuple[Verdict | None, str | None]:
    """Read a reply: the verdict and None, or None and the problem's name."""
    try:
        return read_verdict(reply), None
    except UnreadableReplyError as error:
        return None, "answered_twice" if error.kind == "contradictory" else "nonsense"
