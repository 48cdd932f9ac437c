"""Teach a checkpoint your own video with LoRA, in a plain loop, and track with what was learned.

python examples/fine_tune.py [STEPS]    # on drawn shapes; for real training see docs/train.md
"""

import json
import sys
from pathlib import Path

import peft
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

import tracking_elysium  # noqa: F401 - registers model, processor and pipeline

FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures"
MODEL = str(FIXTURES / "drawn_shapes")


def batch_of(processor, frames: list, boxes: list, device: torch.device) -> dict[str, torch.Tensor]:
    """One clip as question and answer; only the answer (boxes in [0, 1], one per frame) is labeled."""
    answer = processor.render_answer("sot", boxes=boxes)
    messages = processor.build_messages("sot", len(frames), box=boxes[0], answer=answer)
    pictures = [part for part in messages[0]["content"] if part["type"] == "image"]
    for part, frame in zip(pictures, frames, strict=True):
        part["image"] = frame
    options = {"return_assistant_tokens_mask": True, "processor_kwargs": {"return_tensors": "pt"}}
    batch = processor.apply_chat_template([messages], tokenize=True, return_dict=True, **options)
    answered = torch.as_tensor(batch.pop("assistant_masks")).bool()
    batch["labels"] = batch["input_ids"].masked_fill(~answered, -100)
    return {name: tensor.to(device) for name, tensor in batch.items()}


def main(steps: str = "30") -> list[float]:
    """Train adapters of the language model on the sample's first object; return the losses."""
    torch.manual_seed(0)
    processor = AutoProcessor.from_pretrained(MODEL)
    model = AutoModelForImageTextToText.from_pretrained(MODEL)
    model = peft.get_peft_model(model, peft.LoraConfig(r=8, target_modules=r".*\.language_model\..*_proj")).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    truth = json.loads((FIXTURES / "drawn_sample.json").read_text())
    boxes = torch.tensor(truth["objects"][0]["box"])
    box_px = (boxes[0].clamp(0, 1) * torch.tensor(truth["frame_size"] * 2)).tolist()
    video, losses = processor.open_video(str(FIXTURES / "drawn_sample.mp4")), []
    for step in range(int(steps)):
        shown = [(step * 5) % (len(boxes) - 8) + place for place in range(8)]
        batch = batch_of(processor, video.read(shown), boxes[shown].clamp(0, 1).tolist(), model.device)
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses += [loss.item()]
    print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}")
    tracked = pipeline("video-tracking", model=model, processor=processor)
    print(tracked(video.read(range(4)), box=tuple(box_px))[-1]["objects"])
    return losses


if __name__ == "__main__":
    main(*sys.argv[1:])
