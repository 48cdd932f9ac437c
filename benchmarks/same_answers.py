"""Whether fast decoding gives the answers of slow decoding, over the whole synthetic test split, and its report.

    python -m benchmarks.same_answers --model tests/fixtures/drawn_shapes

Every prompt that tracking the split asks, by box and by words, is answered three times: by the library's `generate`
(the slow twin), by drafts in batches, and by drafts one prompt at a time; once free, once held to the box format.
Float32. Writes `benchmarks/same_answers.md` and ends with an error if a single answer differs.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm import tqdm

import tracking_elysium  # noqa: F401 - registers model, processor and pipeline
from evaluate_metrics.readers.synthetic import PARTS, Part, drawn
from evaluate_metrics.runners.machine import provenance
from tracking_elysium.answering import ClipAnswerer
from tracking_elysium.drafted_answering import DraftedAnswerer
from tracking_elysium.exchange import ClipAnswer, ClipRequest
from tracking_elysium.options import TrackingOptions
from tracking_elysium.queries import ObjectQuery
from tracking_elysium.scheduling import track_videos
from tracking_elysium.session import TrackingSession
from tracking_elysium.stats import Stats

ROOT = Path(__file__).resolve().parents[1]
DRAWN = ROOT / "tests" / "fixtures" / "drawn_shapes"
REPORT = ROOT / "benchmarks" / "same_answers.md"


@dataclass
class Compared:
    """Answers prompts slowly, and notes what the fast ways say to the same prompts.

    Attributes:
        slow: gives the answers that tracking goes on with.
        fast: name -> another way to answer.
        prompts: asked so far.
        differing: name -> answers that were others.
        largest: name -> largest difference of a token's log-probability.
        misses: (slow text, fast text) of the first answers that differ.
    """

    slow: ClipAnswerer
    fast: dict[str, ClipAnswerer]
    prompts: int = 0
    differing: dict[str, int] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    misses: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, requests: list[ClipRequest]) -> list[ClipAnswer]:
        """Answer all requests, in order."""
        wanted = self.slow(requests)
        self.prompts += len(requests)
        for name, answerer in self.fast.items():
            for a, b in zip(wanted, answerer(requests), strict=True):
                if a.text != b.text or len(a.logprobs) != len(b.logprobs):
                    self.differing[name] = self.differing.get(name, 0) + 1
                    self.misses.append((a.text, b.text))
                else:
                    apart = max((abs(x - y) for x, y in zip(a.logprobs, b.logprobs, strict=True)), default=0.0)
                    self.largest[name] = max(self.largest.get(name, 0.0), apart)
        return wanted


def main() -> None:
    """Compare and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(DRAWN), help="checkpoint folder or Hub id")
    parser.add_argument("--batch-size", type=int, default=16, help="prompts at a time, where there are several")
    parser.add_argument("--limit", type=int, help="only so many videos of each part")
    parser.add_argument("--report", type=Path, default=REPORT)
    args = parser.parse_args()
    model = transformers.AutoModelForImageTextToText.from_pretrained(args.model, dtype=torch.float32).eval()
    processor = transformers.AutoProcessor.from_pretrained(args.model)
    rows, misses = [], []
    for part in PARTS:
        for constrained in (False, True):
            compared, plain, drafted = compare(model, processor, part, constrained, args.batch_size, args.limit)
            rows.append(row(part, constrained, compared, plain, drafted))
            misses.extend(compared.misses)
    text = "\n".join([header(), *rows, ""])
    args.report.write_text(text, encoding="utf-8")
    print(text)
    for slow, fast in misses[:5]:
        print(f"slow: {slow}\nfast: {fast}\n")
    if misses:
        raise SystemExit(f"{len(misses)} answers differ")


def compare(
    model: Any, processor: Any, part: Part, constrained: bool, batch_size: int, limit: int | None
) -> tuple[Compared, Stats, Stats]:
    """Track a part of the test split; the counts of slow and of fast decoding in batches."""
    plain = ClipAnswerer(model, processor, batch_size, constrained=constrained)
    drafted = DraftedAnswerer(model, processor, batch_size, constrained=constrained)
    alone = DraftedAnswerer(model, processor, 1, constrained=constrained)
    compared = Compared(plain, {"batched": drafted, "one by one": alone})
    options = TrackingOptions(constrained=constrained)
    count = min(part.count, limit or part.count)

    def sessions() -> Any:
        for index in tqdm(range(count), desc=f"{part.name}, {'constrained' if constrained else 'free'}"):
            clip, track = drawn(part, "test", index)
            for subject in ({"box": tuple(track.boxes[0])}, {"expression": track.expression}):
                source = processor.open_video(list(clip.frames))
                yield TrackingSession(source, processor, [ObjectQuery(0, "0", **subject)], options)

    frames = sum(1 for _ in track_videos(sessions(), compared, batch_size))
    for stats in (plain.stats, drafted.stats):
        stats.boxes = frames
    return compared, plain.stats, drafted.stats


def header() -> str:
    """Where, when, with what; and the head of the table."""
    return (
        "# The same answers, fast and slow\n\n"
        f"{provenance()}, float32. `python -m benchmarks.same_answers`\n\n"
        "Test split, every object by box and by words. Passes per frame: of one row, with its prompt.\n\n"
        "| part | decoding | prompts | answers that differ: batched | one by one | log-probability apart at most "
        "| passes/frame plain | drafted |\n"
        "|---|---|---|---|---|---|---|---|"
    )


def row(part: Part, constrained: bool, compared: Compared, plain: Stats, drafted: Stats) -> str:
    """A line of the table."""
    cells = [
        part.name,
        "constrained" if constrained else "free",
        compared.prompts,
        *(compared.differing.get(name, 0) for name in compared.fast),
        f"{max(compared.largest.values(), default=0.0):.1e}",
        f"{plain.as_dict()['forwards_per_frame']:.2f}",
        f"{drafted.as_dict()['forwards_per_frame']:.2f}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
