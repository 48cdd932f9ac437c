"""The command line of `python -m evaluate_metrics.judge`: GPT-assisted accuracy of answers that `run` wrote.

The verdicts of one judge on one tracker's answers are a file, `TRACKER/judged/JUDGE.json`, which `report` reads:
asking costs money and time, reporting does not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..readers.items import file_name
from ..videoqa.judge import Judge, OpenAICompatibleJudge, TransformersJudge
from ..videoqa.qa import estimate, evaluate_qa
from .store import Truth, read_lines, read_truth, write_json

__all__ = ["judge_answers", "main", "read_judged"]

FOLDER = "judged"
EPILOG = """examples:
  python -m evaluate_metrics.judge results --task msvd_qa-test-vqa --local Qwen/Qwen3-8B
  python -m evaluate_metrics.judge results --task msvd_qa-test-vqa --url http://localhost:8000/v1 --model my-model
  ELYSIUM_JUDGE_KEY=... python -m evaluate_metrics.judge results --url https://api.example.com/v1 --model NAME \\
      --usd-per-million 0.15 0.60 --max-usd 5
Verdicts are cached: a run that was stopped goes on where it was. `--estimate` says what it takes, and asks nothing."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluate_metrics.judge",
        description="Let a judge decide on the answers to questions about videos (docs/metrics.md); `report` then "
        "shows its accuracy beside the offline matches.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, help="folder that `run` wrote (its --out)")
    parser.add_argument("--task", nargs="+", help="folders of tasks below it (default: all that ask questions)")
    parser.add_argument("--tracker", nargs="+", help="folders below those (default: all)")
    parser.add_argument("--url", help="OpenAI-compatible address up to /v1; a key is read from ELYSIUM_JUDGE_KEY")
    parser.add_argument("--model", help="name of the model at that address")
    parser.add_argument("--local", metavar="MODEL", help="folder or Hub id of a chat model of transformers instead")
    parser.add_argument("--cache", type=Path, help="folder of verdicts (default: RESULTS/verdicts)")
    parser.add_argument("--concurrency", type=int, default=4, help="questions under way at a time (default: 4)")
    parser.add_argument("--usd-per-million", nargs=2, type=float, metavar=("IN", "OUT"), help="prices of tokens")
    parser.add_argument("--max-usd", type=float, help="ask nothing if the estimate is above")
    parser.add_argument("--estimate", action="store_true", help="say how many calls, tokens and dollars; ask nothing")
    options = parser.parse_args(arguments)
    try:
        _judge(options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def _judge(options: argparse.Namespace) -> None:
    if bool(options.url) == bool(options.local) or bool(options.url) != bool(options.model):
        raise ValueError("name one judge: `--url ADDRESS --model NAME`, or `--local MODEL`.")
    folders = _answered(options.results, options.task, options.tracker)
    judge: Judge
    if options.url:
        judge = OpenAICompatibleJudge(options.url, options.model, os.environ.get("ELYSIUM_JUDGE_KEY"))
    else:
        from transformers import pipeline

        judge = TransformersJudge(pipeline("text-generation", model=options.local), options.local)
    cache = options.cache or options.results / "verdicts"
    cost_in, cost_out = options.usd_per_million or (None, None)
    for folder in folders:
        truths = [truth for truth in read_truth(folder.parent) if truth.scored]
        if options.estimate:
            questions, said, true = _asked(folder, truths)
            told = estimate(questions, said, true, judge, cache, cost_in, cost_out)
            print(json.dumps({str(folder.relative_to(options.results)): told}))
            continue
        judged = judge_answers(
            folder, truths, judge, cache, concurrency=options.concurrency, max_usd=options.max_usd,
            usd_per_million_input=cost_in, usd_per_million_output=cost_out,
        )  # fmt: skip
        print(f"{folder}: accuracy {judged['judge_accuracy']:.3f}, score {judged['judge_score']:.2f}", file=sys.stderr)


def _answered(results: Path, tasks: Sequence[str] | None, trackers: Sequence[str] | None) -> list[Path]:
    """Folders of answers to questions."""
    found = [
        run.parent
        for path in sorted(results.glob("*/task.json"))
        if json.loads(path.read_text("utf-8"))["ask"] == "vqa" and (tasks is None or path.parent.name in tasks)
        for run in sorted(path.parent.glob("*/run.json"))
        if trackers is None or run.parent.name in trackers
    ]
    if not found:
        asked = f"task {tasks or 'any'}, tracker {trackers or 'any'}"
        raise ValueError(f"{results} has no answers to questions ({asked}); run `evaluate_metrics.run` first.")
    return found


def _asked(folder: Path, truths: Sequence[Truth]) -> tuple[list[str], list[str], list[str]]:
    """Questions, answers (empty where there is none) and true answers."""
    rows = {row["name"]: row for path in sorted(folder.glob("block-*.jsonl")) for row in read_lines(path)}
    said = [str(rows.get(truth.name, {}).get("text") or "").strip() for truth in truths]
    return [truth.words or "" for truth in truths], said, [truth.references[0] for truth in truths]


def judge_answers(
    folder: Path, truths: Sequence[Truth], judge: Judge, cache: Path | None = None, **how: Any
) -> dict[str, Any]:
    """Ask a judge about a tracker's answers and write its verdicts beside them.

    Args:
        folder: of the tracker.
        truths: of the task.
        judge: see `evaluate_metrics.videoqa.judge`.
        cache: folder of verdicts.
        **how: further keywords of `evaluate_qa`; another name is a TypeError.

    Returns:
        What `evaluate_qa` returns.

    Raises:
        ValueError: the estimate is above `max_usd`.
    """
    questions, said, true = _asked(folder, truths)
    with tqdm(total=len(said), desc=f"{folder.name} before {judge.name}") as bar:
        found = evaluate_qa(
            said, true, questions, judge, cache, return_items=True, on_item=lambda _: bar.update(), **how
        )
    items = [
        {"name": truth.name, "answer": answer, **{key: item[key] for key in ("correct", "score", "problem")}}
        for truth, answer, item in zip(truths, said, found["items"], strict=True)
    ]
    write_json(folder / FOLDER / f"{file_name(judge.name)}.json", {"judge": judge.name, "items": items})
    return found


def read_judged(folder: Path, names: Sequence[str], answers: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the verdicts of all judges on a tracker's answers.

    An item whose answer is another one by now, or that no verdict is about, is unjudged and counts as wrong.

    Args:
        folder: of the tracker.
        names: of all N items of the task.
        answers: N answers, as they are now.

    Returns:
        Per judge `judge`, `gpt_accuracy` (yes / all), `gpt_score` (0 to 5, over all), `gpt_accuracy_of_judged`,
        `num_judged`, `num_items` and `problems` (name to count); and sentences about what should be judged again.
    """
    found, sentences = [], []
    for path in sorted((folder / FOLDER).glob("*.json")):
        data = json.loads(path.read_text("utf-8"))
        rows = {row["name"]: row for row in data["items"]}
        problems: Counter[str] = Counter()
        right, score, judged = 0, 0, 0
        for name, answer in zip(names, answers, strict=True):
            row = rows.get(name)
            problem = "not asked" if row is None else "answer changed" if row["answer"] != answer else row["problem"]
            if row is None or problem is not None:
                problems[str(problem)] += 1
                continue
            judged, right, score = judged + 1, right + bool(row["correct"]), score + row["score"]
        found.append(
            {
                "judge": data["judge"],
                "gpt_accuracy": right / len(names) if names else 0.0,
                "gpt_score": score / len(names) if names else 0.0,
                "gpt_accuracy_of_judged": right / judged if judged else None,
                "num_judged": judged,
                "num_items": len(names),
                "problems": dict(sorted(problems.items())),
            }
        )
        open_items = problems["not asked"] + problems["answer changed"]
        if open_items:
            sentences.append(
                f"judge {data['judge']}: {open_items} answers were not before it (run `evaluate_metrics.judge` again)"
            )
    return found, sentences
