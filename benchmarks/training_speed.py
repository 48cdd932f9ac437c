"""Training steps on batches planned by length against a plain collator: speed, padding, memory, the same loss.

The plain way takes items as they come, pads each batch to its longest conversation and computes all logits. Ours plans
batches of similar length by a budget of tokens, no larger than the plain way's largest batch, and computes logits of
labelled tokens only (`train/batching.py`, `train/trainer.py`). The packed way has no padding: the same budget is
filled with conversations one behind the other in a single row, positions start anew with each, and a token attends
within its own (block-diagonal attention, which the library derives from the positions). Model, conversations and
frames are the same, decoded beforehand; a round is one pass over them by each way in turn, from token ids and pixels
to the optimizer's step.

    python -m benchmarks.training_speed [--model FOLDER] [--items 112] [--rounds 2] [--report FILE]
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
from train.lengths import encode

GIB = 2**30
BAR = 1.5  # times as many samples per second as the plain way
BATCH = 8


@dataclass
class Way:
    """One way to train.

    Attributes:
        name: in the report.
        batches: positions of the items of each batch.
        sizes: tokens that go through the model in each batch, padding included.
        collate: samples to a batch.
        loss: model and batch to the sum of the labelled tokens' losses.
    """

    name: str
    batches: list[list[int]]
    sizes: list[int]
    collate: Callable[[Sequence[dict[str, Any]]], dict[str, Any]]
    loss: Callable[[Any, dict[str, Any]], torch.Tensor]


def main() -> None:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tests/fixtures/drawn_shapes", help="folder or Hub id")
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
    tried = ways(processor, lengths)
    difference = same_loss(model, samples, tried)
    memory = {way.name: peak(model, samples, way) for way in tried}
    times: dict[str, list[float]] = {way.name: [] for way in tried}
    for number in range(args.rounds):  # the comparison of losses was the warm-up
        for way in tried if number % 2 else reversed(tried):
            times[way.name].append(one_pass(model, samples, way))
            print(f"round {number + 1}, {way.name}: {times[way.name][-1]:.1f} s", flush=True)
    text = report(args, samples, lengths, tried, times, memory, difference)
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


def ways(processor: ElysiumProcessor, lengths: Sequence[int]) -> tuple[Way, Way, Way]:
    """The plain way, ours, and packed rows, with the same largest batch in tokens."""
    arrival = [list(range(i, min(i + BATCH, len(lengths)))) for i in range(0, len(lengths), BATCH)]
    budget = max(padded(lengths, arrival))
    planned = batches_by_length(lengths, 4 * BATCH, budget, np.random.default_rng(0))
    rows = first_fit(lengths, budget)
    collator = ConversationCollator(processor)
    return (
        Way(
            "plain",
            arrival,
            padded(lengths, arrival),
            lambda samples: padded_to_the_longest(processor, samples),
            all_logits,
        ),
        Way("planned", planned, padded(lengths, planned), collator, labelled_logits),
        Way(
            "packed",
            rows,
            [sum(lengths[item] for item in row) for row in rows],
            lambda samples: packed(processor, samples),
            labelled_logits,
        ),
    )


def padded(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> list[int]:
    """Tokens of each batch, padding included."""
    return [len(rows) * max(lengths[row] for row in rows) for rows in batches]


def first_fit(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Items in rows of at most `budget` tokens: the longest first, each into the first row that has room."""
    rows: list[list[int]] = []
    room: list[int] = []
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        place = next((i for i, left in enumerate(room) if left >= lengths[item]), len(rows))
        if place == len(rows):
            rows.append([])
            room.append(budget)
        rows[place].append(item)
        room[place] -= lengths[item]
    return rows


def packed(processor: ElysiumProcessor, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One row of all conversations, positions from 0 in each."""
    rows = [encode(processor, sample["messages"]) for sample in samples]
    ids = np.concatenate([row.input_ids for row in rows])
    answers = np.concatenate([row.answers for row in rows])
    frames = [frame for sample in samples for frame in sample["frames"]]
    return {
        "input_ids": torch.from_numpy(ids)[None],
        "position_ids": torch.from_numpy(np.concatenate([np.arange(len(row)) for row in rows]))[None],
        "labels": torch.from_numpy(np.where(answers, ids, IGNORED))[None],
        "pixel_values": processor.image_processor(frames, return_tensors="pt")["pixel_values"],
    }


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
    given = ("input_ids", "attention_mask", "position_ids", "pixel_values")
    inputs = {name: batch[name] for name in given if name in batch}
    logits = model(**inputs, use_cache=False, logits_to_keep=functional.pad(asked, (0, 1))).logits.float()
    return functional.cross_entropy(logits, labels[asked], reduction="sum")


def collated(model: Any, samples: Sequence[dict[str, Any]], rows: Sequence[int], way: Way) -> dict[str, Any]:
    """A batch on the model's device."""
    batch = way.collate([samples[row] for row in rows])
    return {name: value.to(model.device) for name, value in batch.items() if isinstance(value, torch.Tensor)}


def same_loss(model: Any, samples: Sequence[dict[str, Any]], tried: Sequence[Way]) -> float:
    """Largest relative difference of the ways' losses from the first one's, summed over all items."""
    with torch.no_grad():
        sums = [
            sum(float(way.loss(model, collated(model, samples, rows, way))) for rows in way.batches) for way in tried
        ]
    return max(abs(one - sums[0]) / abs(sums[0]) for one in sums[1:])


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


def peak(model: Any, samples: Sequence[dict[str, Any]], way: Way) -> float:
    """Bytes that the way's largest batch needs beyond the model, forward and backward."""
    rows = way.batches[int(np.argmax(way.sizes))]
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
    tried: tuple[Way, Way, Way],
    times: dict[str, list[float]],
    memory: dict[str, float],
    difference: float,
) -> str:
    """The page."""
    plain, ours, packing = tried
    rows = []
    for way in tried:
        seconds = statistics.median(times[way.name])
        waste = 1 - sum(lengths) / sum(way.sizes)
        rows.append(
            f"| {way.name} | {len(samples) / seconds:.2f} | {sum(lengths) / seconds:.0f} | {waste:.1%} | "
            f"{memory[way.name] / GIB:.2f} | {len(way.batches)} |"
        )
    ratios = [a / b for a, b in zip(times[plain.name], times[ours.name], strict=True)]
    ratio = statistics.median(ratios)
    gains = [a / b for a, b in zip(times[ours.name], times[packing.name], strict=True)]
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
            "included, frames decoded beforehand; on a CPU seconds of its time. The batches of all have the same "
            "budget of tokens.",
            "",
            "| way | samples/s | tokens/s (without padding) | padding | peak memory beside the model, GiB | steps |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"Planned against plain: {ratio:.2f} times as fast (rounds: {', '.join(f'{r:.2f}' for r in ratios)}; bar "
            f"{BAR}: {'reached' if ratio >= BAR else 'not reached'}), "
            f"{memory[ours.name] / memory[plain.name]:.2f} times the memory. The summed losses differ by "
            f"{difference:.1e} of their size at most.",
            "",
            f"Packed against planned: {statistics.median(gains):.2f} times as fast (rounds: "
            f"{', '.join(f'{gain:.2f}' for gain in gains)}), "
            f"{memory[packing.name] / memory[ours.name]:.2f} times the memory.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
