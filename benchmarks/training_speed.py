"""Training steps on batches planned by length against a plain collator: speed, padding, memory, the same loss.

The plain way takes items as they come, pads each batch to its longest conversation and computes all logits. Ours plans
batches of similar length by a budget of tokens, no larger than the plain way's largest batch, and computes logits of
labelled tokens only (`train/batching.py`, `train/trainer.py`). Model, conversations and frames are the same, decoded
beforehand; a round is one pass over them by each way in turn, from token ids and pixels to the optimizer's step.

    python -m benchmarks.training_speed [--model elysium] [--items 112] [--rounds 2] [--report FILE]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from evaluate_metrics.runners.machine import provenance
from modeling_elysium import ElysiumForConditionalGeneration
from processing_elysium import ElysiumProcessor
from train.batching import batches_by_length
from train.collator import IGNORED, ConversationCollator
from train.config import SourceConfig, StageConfig
from train.data import ConversationSource
from train.lengths import encode, padding_share

GIB = 2**30
BAR = 1.5  # times as many samples per second as the plain way
BATCH = 8


@dataclass
class Way:
    """One way to train.

    Attributes:
        name: in the report.
        batches: positions of the items of each batch.
        collate: samples to a batch.
        loss: model and batch to the sum of the labelled tokens' losses.
    """

    name: str
    batches: list[list[int]]
    collate: Callable[[Sequence[dict[str, Any]]], dict[str, Any]]
    loss: Callable[[Any, dict[str, Any]], torch.Tensor]


def main() -> None:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="elysium", help="folder or Hub id")
    parser.add_argument("--items", type=int, default=112, help="conversations of a round")
    parser.add_argument("--rounds", type=int, default=2, help="passes over them by each way")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--report", type=Path, help="write a dated report")
    args = parser.parse_args()
    device = torch.device(args.device)
    model = ElysiumForConditionalGeneration.from_pretrained(args.model, dtype=torch.float32).to(device)
    processor = ElysiumProcessor.from_pretrained(args.model)
    samples = draw(processor, model.config.vision_config.image_size, args.items)
    lengths = [len(encode(processor, sample["messages"])) for sample in samples]
    plain, ours = ways(processor, lengths)
    difference = same_loss(model, samples, plain, ours)
    memory = {way.name: peak(model, samples, lengths, way) for way in (plain, ours)}
    times: dict[str, list[float]] = {plain.name: [], ours.name: []}
    for number in range(args.rounds):  # the comparison of losses was the warm-up
        for way in (plain, ours) if number % 2 else (ours, plain):
            times[way.name].append(one_pass(model, samples, way))
            print(f"round {number + 1}, {way.name}: {times[way.name][-1]:.1f} s", flush=True)
    text = report(args, samples, lengths, (plain, ours), times, memory, difference)
    print(text)
    if args.report:
        args.report.write_text(text, encoding="utf-8")


def draw(processor: ElysiumProcessor, size: int, count: int) -> list[dict[str, Any]]:
    """Items of a mixture as in stage 2a: clips of 2 to 8 frames and as many images (half of the items each)."""
    options = {"size": size, "interval": [1, 6]}
    stages = [
        StageConfig(
            name=name,
            sources=[SourceConfig(source="synthetic", tasks=tasks, options=options)],
            num_frames=frames,
            turns=turns,
            arguments={},
        )
        for name, tasks, frames, turns in (
            ("clips", {"sot": 1.0, "rsot": 1.0, "video_reg": 0.5}, (2, 8), 2),
            ("images", {"rec": 1.0, "reg": 1.0}, (1, 1), 2),
        )
    ]
    sources = [ConversationSource(stage, 1, writer=processor) for stage in stages]
    kinds = np.random.default_rng(0).permutation(np.arange(count) % 2)
    return [sources[kind][number] for number, kind in enumerate(kinds)]


def ways(processor: ElysiumProcessor, lengths: Sequence[int]) -> tuple[Way, Way]:
    """The plain way and ours, with the same largest batch in tokens."""
    arrival = [list(range(i, min(i + BATCH, len(lengths)))) for i in range(0, len(lengths), BATCH)]
    budget = max(len(rows) * max(lengths[row] for row in rows) for rows in arrival)
    planned = batches_by_length(lengths, 4 * BATCH, budget, np.random.default_rng(0))
    collator = ConversationCollator(processor)
    return (
        Way("plain", arrival, lambda samples: padded_to_the_longest(processor, samples), all_logits),
        Way("planned", planned, collator, labelled_logits),
    )


def padded_to_the_longest(processor: ElysiumProcessor, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The plain collator: the processor writes, tokenizes and pads conversations with their frames."""
    conversations = []
    for sample in samples:
        frames = iter(sample["frames"])
        conversations.append(
            [
                {**m, "content": [{**p, "image": next(frames)} if p["type"] == "image" else p for p in m["content"]]}
                for m in sample["messages"]
            ]
        )
    batch: Any = processor.apply_chat_template(
        conversations,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        processor_kwargs={"padding": True, "return_tensors": "pt"},
    )
    answers = torch.as_tensor(batch["assistant_masks"]).bool()
    found = {name: batch[name] for name in ("input_ids", "attention_mask", "pixel_values")}
    return {**found, "labels": batch["input_ids"].masked_fill(~answers, IGNORED)}


def all_logits(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """The plain loss: logits of every position."""
    labels = batch.pop("labels")[:, 1:]
    logits = model(**batch, use_cache=False).logits[:, :-1].float()
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")


def labelled_logits(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """The trainer's loss: logits before labelled tokens only."""
    labels = batch["labels"][:, 1:]
    asked = labels != IGNORED
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "pixel_values")}
    logits = model(**inputs, use_cache=False, logits_to_keep=functional.pad(asked, (0, 1))).logits.float()
    return functional.cross_entropy(logits, labels[asked], reduction="sum")


def collated(model: Any, samples: Sequence[dict[str, Any]], rows: Sequence[int], way: Way) -> dict[str, Any]:
    """A batch on the model's device."""
    batch = way.collate([samples[row] for row in rows])
    return {name: value.to(model.device) for name, value in batch.items() if isinstance(value, torch.Tensor)}


def same_loss(model: Any, samples: Sequence[dict[str, Any]], plain: Way, ours: Way) -> float:
    """Relative difference of the two ways' losses, summed over all items."""
    with torch.no_grad():
        sums = [
            sum(float(way.loss(model, collated(model, samples, rows, way))) for rows in way.batches)
            for way in (plain, ours)
        ]
    return abs(sums[0] - sums[1]) / abs(sums[0])


def one_pass(model: Any, samples: Sequence[dict[str, Any]], way: Way) -> float:
    """Seconds of training on every item once; on a CPU those of the process, so that other work does not count."""
    clock = time.perf_counter if model.device.type == "cuda" else time.process_time
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    began = clock()
    for rows in way.batches:
        step(model, samples, rows, way, optimizer)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - began


def step(model: Any, samples: Sequence[dict[str, Any]], rows: Sequence[int], way: Way, optimizer: Any) -> None:
    """One step of the optimizer."""
    batch = collated(model, samples, rows, way)
    count = (batch["labels"] != IGNORED).sum()
    (way.loss(model, batch) / count).backward()
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad()


def peak(model: Any, samples: Sequence[dict[str, Any]], lengths: Sequence[int], way: Way) -> float:
    """Bytes that the way's largest batch needs beyond the model, forward and backward."""
    rows = max(way.batches, key=lambda rows: len(rows) * max(lengths[row] for row in rows))
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(model, samples, rows, way, None)
        model.zero_grad()
        return torch.cuda.max_memory_allocated() - before
    context = multiprocessing.get_context("fork")  # a process of its own: freed memory would hide the next peak
    receiver, sender = context.Pipe(duplex=False)

    def measure() -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the kernel's peak starts anew
        before = resident("VmRSS")
        step(model, samples, rows, way, None)
        sender.send(resident("VmHWM") - before)

    child = context.Process(target=measure)
    child.start()
    found = receiver.recv()
    child.join()
    return found


def resident(name: str) -> int:
    """Bytes of this process by the kernel's account."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


def report(
    args: argparse.Namespace,
    samples: Sequence[dict[str, Any]],
    lengths: Sequence[int],
    both: tuple[Way, Way],
    times: dict[str, list[float]],
    memory: dict[str, float],
    difference: float,
) -> str:
    """The page."""
    plain, ours = both
    rows = []
    for way in both:
        seconds = statistics.median(times[way.name])
        waste = padding_share([[lengths[row] for row in rows] for rows in way.batches])
        rows.append(
            f"| {way.name} | {len(samples) / seconds:.2f} | {sum(lengths) / seconds:.0f} | {waste:.1%} | "
            f"{memory[way.name] / GIB:.2f} | {len(way.batches)} |"
        )
    ratios = [a / b for a, b in zip(times[plain.name], times[ours.name], strict=True)]
    ratio = statistics.median(ratios)
    frames = [len(sample["frames"]) for sample in samples]
    return "\n".join(
        [
            "# Training speed",
            "",
            f"{provenance(args.device)}; `python -m benchmarks.training_speed --model {args.model} "
            f"--items {args.items} --rounds {args.rounds}`.",
            "",
            f"{len(samples)} conversations of {min(lengths)} to {max(lengths)} tokens with {min(frames)} to "
            f"{max(frames)} frames, {args.rounds} rounds, medians. Forward, backward and AdamW in float32, collating "
            "included, frames decoded beforehand; on a CPU seconds of its time. The largest batches of both have the "
            "same budget of tokens.",
            "",
            "| way | samples/s | tokens/s (without padding) | padding | peak memory beside the model, GiB | steps |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"Planned against plain: {ratio:.2f} times as fast (rounds: {', '.join(f'{r:.2f}' for r in ratios)}; bar "
            f"{BAR}: {'reached' if ratio >= BAR else 'not reached'}), "
            f"{memory[ours.name] / memory[plain.name]:.2f} times the memory. The summed losses differ by "
            f"{difference:.1e} of their size.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
