"""Numbers of the authors' released code beside ours, from a checkpoint in their layout with what their code computed.

The folder holds the checkpoint, `oracle.npz` (inputs and what their code made of them) and `texts.json`. It is
converted, reloaded, and every number is compared; the exit code says whether all of them agree.

    python -m benchmarks.released_numbers FOLDER
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from modeling_elysium.convert_elysium_weights_to_hf import convert

__all__ = ["Row", "compare", "compare_training", "main"]

IMAGE = -200  # how the oracle writes an image
CLIPS = ("A", "B")
NEW_TOKENS, NO_END = 32, 3  # the oracle's generation: so many tokens, no end among the first


@dataclass(frozen=True)
class Row:
    """One line of the table: `seen` must not exceed `limit`; both count differences where the limit is 0."""

    name: str
    seen: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the numbers agree."""
        return self.seen <= self.limit

    def __str__(self) -> str:
        return f"{self.name:<34} {self.seen:>12.3g}   <= {self.limit:<8g} {'ok' if self.passed else 'DIFFERS'}"


def compare(model: Any, processor: Any, folder: Path) -> list[Row]:
    """Prompts, selection, features, logits and greedy tokens of the clips A, B and of both in one batch."""
    oracle, texts = np.load(folder / "oracle.npz"), json.loads((folder / "texts.json").read_text())
    frames = {clip: list(oracle[f"frames_vid{clip}"]) for clip in CLIPS}
    prompts = {clip: texts[clip]["prompt"] for clip in CLIPS}
    rows = []
    for clip in CLIPS:
        inputs = processor(text=[prompts[clip]], images=[frames[clip]], return_tensors="pt")
        ids = collapsed(inputs["input_ids"][0].tolist(), processor)
        rows.append(Row(f"{clip} input ids", differing(ids, oracle[f"{clip}.input_ids"][0].tolist()), 0))
        rows += compare_vision(model, inputs["pixel_values"], oracle, clip)
        with torch.no_grad():
            logits = model(**inputs).logits[0]
        wrong = (logits.argmax(-1).numpy() != oracle[f"{clip}.logits_argmax"][0]).sum()
        rows.append(Row(f"{clip} best token, every position", float(wrong), 0))
        lse = logits.logsumexp(-1).numpy()
        rows.append(Row(f"{clip} logsumexp, every position", furthest(lse, oracle[f"{clip}.logits_lse"][0]), 1e-4))
        last = logits[-8:].numpy()
        rows.append(Row(f"{clip} logits, last 8 positions", furthest(last, oracle[f"{clip}.logits_last8"][0]), 1e-4))
        rows.append(Row(f"{clip} greedy ids", differing(greedy(model, inputs)[0], wanted_ids(oracle, clip)), 0))
    inputs = processor(
        text=[prompts[clip] for clip in CLIPS],
        images=[frames[clip] for clip in CLIPS],
        padding=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        last = model(**inputs, logits_to_keep=8).logits.numpy()
    rows.append(Row("A+B logits, last 8 positions", furthest(last, oracle["AB.logits_last8"]), 1e-4))
    for clip, ids in zip(CLIPS, greedy(model, inputs), strict=True):
        rows.append(Row(f"A+B greedy ids of {clip}", differing(ids, wanted_ids(oracle, clip)), 0))
    return rows


def compare_vision(model: Any, pixels: torch.Tensor, oracle: Any, clip: str) -> list[Row]:
    """Tower, scores, kept indices and projected tokens of one clip."""
    with torch.no_grad():
        features = model.get_image_features(pixels)
        patches = features.last_hidden_state[:, -model.config.num_patches :]
        scores = model.model.selector.score(patches).numpy()
    wrong = (features.kept_indices.numpy() != oracle[f"{clip}.indices"]).sum()
    projected = torch.stack(features.pooler_output).numpy()
    return [
        Row(f"{clip} tower", furthest(patches[:, ::8].numpy(), oracle[f"{clip}.vision"]), 2e-5),
        Row(f"{clip} selector scores", furthest(scores, oracle[f"{clip}.adapter_logits"]), 1e-4),
        Row(f"{clip} kept indices, every frame", float(wrong), 0),
        Row(f"{clip} proj_out", furthest(projected, oracle[f"{clip}.proj_out"]), 1e-5),
    ]


def compare_training(model: Any, processor: Any, folder: Path) -> list[Row]:
    """Token ids, labels, loss and projector gradients of a training batch."""
    oracle, texts = np.load(folder / "oracle.npz"), json.loads((folder / "texts.json").read_text())
    written = texts["A"]["gt"].removeprefix("Frame 1: ").split("]")[0] + "]"  # the box that stands in the question
    wording = texts["A"]["prompt"].split("<image>\n")[1].removesuffix("ASSISTANT:").replace(written, "{box}")
    conversations = []
    for clip in CLIPS:
        frames, boxes = oracle[f"frames_vid{clip}"], oracle[f"box_vid{clip}"]
        answer = processor.render_answer("sot", boxes=boxes)
        messages = processor.build_messages("sot", len(frames), box=boxes[0], prompt=wording, answer=answer)
        images = iter(frames)
        for part in messages[0]["content"]:
            if part["type"] == "image":
                part["image"] = next(images)
        conversations.append(messages)
    batch = processor.apply_chat_template(
        conversations,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        processor_kwargs={"padding": True, "return_tensors": "pt"},
    )
    answered = torch.as_tensor(np.array(batch.pop("assistant_masks"))).bool()
    labels = batch["input_ids"].masked_fill(~answered, -100)
    rows = []
    for number, clip in enumerate(CLIPS):
        kept = batch["attention_mask"][number].bool()
        ids = collapsed(batch["input_ids"][number][kept].tolist(), processor)
        theirs = oracle["T.input_ids"][number].tolist()
        rows.append(Row(f"T input ids of {clip}", differing(ids, theirs[: len(ids)]), 0))
        targets = [int(i) for i in oracle["T.labels"][number] if i != -100]
        rows.append(Row(f"T labels of {clip}", differing(labels[number][answered[number]].tolist(), targets), 0))
    model.zero_grad()
    loss = model(**batch, labels=labels).loss
    loss.backward()
    rows.append(Row("T loss", abs(float(loss.detach()) - float(oracle["T.loss"])), 1e-4))
    for theirs, layer in (("0", "linear_1"), ("2", "linear_2")):
        for part in ("weight", "bias"):
            ours = getattr(getattr(model.model.multi_modal_projector, layer), part).grad.numpy()
            rows.append(
                Row(f"T gradient of {layer}.{part}", furthest(ours, oracle[f"T.grad.llm_proj.{theirs}.{part}"]), 1e-4)
            )
    return rows


def greedy(model: Any, inputs: Any) -> list[list[int]]:
    """New greedy tokens of every row."""
    ids = model.generate(**inputs, max_new_tokens=NEW_TOKENS, min_new_tokens=NO_END, do_sample=False)
    return ids[:, inputs["input_ids"].shape[1] :].tolist()


def wanted_ids(oracle: Any, clip: str) -> list[int]:
    """The oracle's greedy tokens; its first id is a dummy that the model never saw."""
    return oracle[f"{clip}.gen_ids"][0].tolist()[1:]


def collapsed(ids: list[int], processor: Any) -> list[int]:
    """Token ids with the K placeholders of a frame written as one image."""
    out, place = [], 0
    while place < len(ids):
        image = ids[place] == processor.image_token_id
        out.append(IMAGE if image else ids[place])
        place += processor.num_image_tokens if image else 1
    return out


def differing(ours: list[int], theirs: list[int]) -> float:
    """How many places of two lists differ, a difference in length included."""
    return float(sum(a != b for a, b in zip(ours, theirs, strict=False)) + abs(len(ours) - len(theirs)))


def furthest(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest absolute difference; infinite for different shapes."""
    return float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")


def main(argv: list[str] | None = None) -> int:
    """Convert, compare, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="checkpoint in the authors' layout, with oracle.npz and texts.json")
    folder = parser.parse_args(argv).folder
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "converted"
        result = convert(str(folder), out)
        model = AutoModelForImageTextToText.from_pretrained(out, dtype=torch.float32).eval()
        processor = AutoProcessor.from_pretrained(out)
        rows = [
            Row("logits before and after saving", result.difference, 0),
            *compare(model, processor, folder),
            *compare_training(model, processor, folder),
        ]
    print("\n".join(map(str, rows)))
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
