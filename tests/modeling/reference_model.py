"""The authors' model once more, in plain float64 operations on the tensors of a checkpoint in their layout.

Written from the published architectures (CLIP, the paper's T-Selector, Llama) without any model code of transformers
or of ours. Where the numbers of the authors' own code are at hand, a test holds this against them; so the numbers that
it gives for the random checkpoint of `released_checkpoints` stand in for theirs in every clone.

    python -m tests.modeling.reference_model    # writes released_numbers.npz anew
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional as F  # noqa: N812

from tests.modeling import reference
from tests.modeling.released_checkpoints import PIECES, released_tensors, write_released

NUMBERS = Path(__file__).with_name("released_numbers.npz")
IMAGE = -200  # stands for a frame in the ids
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
NEW_TOKENS, NO_END, END = 32, 3, 2
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)
WORDING = "Where is the object that has the box {box} in Frame 1? Give its box in every frame.\n"
CLIPS = ("A", "B")


class ReferenceModel:
    """A checkpoint in the authors' layout.

    Args:
        tensors: by their names.
        text: configuration of the language model, as its config.json has it.
        vision: configuration of the vision tower.
        kept: K, tokens kept per frame.
    """

    def __init__(self, tensors: dict[str, torch.Tensor], text: dict[str, Any], vision: dict[str, Any], kept: int):
        self.t = {name: tensor.double() for name, tensor in tensors.items()}
        self.text, self.vision, self.kept = text, vision, kept

    @classmethod
    def load(cls, folder: Path) -> ReferenceModel:
        """Read a folder with `config.json`, `model.safetensors` and the configurations of both base models."""
        text, vision = (json.loads((folder / name / "config.json").read_text()) for name in ("llm", "clip"))
        kept = json.loads((folder / "config.json").read_text())["adapter_config"]["out_token_num"]
        return cls(load_file(folder / "model.safetensors"), text, vision, kept)

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, self.t[f"{name}.weight"], self.t.get(f"{name}.bias"))

    # the vision tower, up to the second-to-last layer, without the class token
    def tower(self, pixels: torch.Tensor) -> torch.Tensor:
        """(F, 3, S, S) -> (F, N, C)."""
        root, size = "visual_encoder.vision_model.", self.vision["patch_size"]
        patches = F.conv2d(pixels.double(), self.t[root + "embeddings.patch_embedding.weight"], stride=size)
        x = patches.flatten(2).transpose(1, 2)
        first = self.t[root + "embeddings.class_embedding"].expand(len(x), 1, -1)
        x = torch.cat([first, x], dim=1) + self.t[root + "embeddings.position_embedding.weight"]
        x = self.norm(x, root + "pre_layrnorm")
        heads = self.vision["num_attention_heads"]
        for layer in range(self.vision["num_hidden_layers"] - 1):
            name = f"{root}encoder.layers.{layer}."
            y = self.norm(x, name + "layer_norm1")
            q, k, v = (self.split(self.linear(y, f"{name}self_attn.{p}_proj"), heads) for p in "qkv")
            weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
            x = x + self.linear((weights @ v).transpose(1, 2).flatten(2), name + "self_attn.out_proj")
            y = self.linear(self.norm(x, name + "layer_norm2"), name + "mlp.fc1")
            x = x + self.linear(y * torch.sigmoid(1.702 * y), name + "mlp.fc2")
        return x[:, 1:]

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        eps = self.vision.get("layer_norm_eps", 1e-5)
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + eps).sqrt()
        return x * self.t[name + ".weight"] + self.t[name + ".bias"]

    @staticmethod
    def split(x: torch.Tensor, heads: int) -> torch.Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    # the T-Selector
    def scores(self, patches: torch.Tensor) -> torch.Tensor:
        """(F, N, C) -> (F, N), one per patch, mixed over the patches."""
        single = patches @ self.t["adapter.pre_proj.weight"][0] + self.t["adapter.pre_proj.bias"]
        return single @ self.t["adapter.trans_weight"] + self.t["adapter.trans_bias"]

    def select(self, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(F, K, C) kept tokens and (F, K) their indices."""
        names = ("pre_proj.weight", "pre_proj.bias", "trans_weight", "trans_bias")
        weights = [self.t[f"adapter.{name}"].numpy() for name in names]
        tokens, indices = reference.select(
            patches.detach().numpy(), weights[0][0], weights[1].item(), weights[2], weights[3], self.kept
        )
        return torch.from_numpy(tokens), torch.from_numpy(indices)

    def project(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.linear(F.gelu(self.linear(tokens, "llm_proj.0")), "llm_proj.2")

    # the language model
    def logits(self, ids: list[int], visual: torch.Tensor) -> torch.Tensor:
        """Logits (T, V) of ids in which every `IMAGE` stands for the next frame of `visual` (F, K, D)."""
        frames, embedding = iter(visual), self.t["llm.model.embed_tokens.weight"]
        x = torch.cat([next(frames) if i == IMAGE else embedding[i][None] for i in ids])
        heads, groups = self.text["num_attention_heads"], self.text["num_key_value_heads"]
        for layer in range(self.text["num_hidden_layers"]):
            name = f"llm.model.layers.{layer}."
            y = self.rms(x, name + "input_layernorm.weight")[None]
            q, k, v = (
                self.split(self.linear(y, f"{name}self_attn.{p}_proj"), n)
                for p, n in (("q", heads), ("k", groups), ("v", groups))
            )
            k, v = (z.repeat_interleave(heads // groups, dim=1) for z in (k, v))
            q, k = self.turn(q), self.turn(k)
            weights = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            future = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
            weights = weights.masked_fill(future, -torch.inf).softmax(-1)
            x = x + self.linear((weights @ v).transpose(1, 2).flatten(2)[0], name + "self_attn.o_proj")
            y = self.rms(x, name + "post_attention_layernorm.weight")
            gate = F.silu(self.linear(y, name + "mlp.gate_proj"))
            x = x + self.linear(gate * self.linear(y, name + "mlp.up_proj"), name + "mlp.down_proj")
        return self.linear(self.rms(x, "llm.model.norm.weight"), "llm.lm_head")

    def rms(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + self.text["rms_norm_eps"]).sqrt() * self.t[name]

    def turn(self, x: torch.Tensor) -> torch.Tensor:
        """Rotary positions: pairs (i, i + half) turn by position / base^(i / half)."""
        half = x.shape[-1] // 2
        base = self.text.get("rope_theta") or self.text["rope_parameters"]["rope_theta"]
        angle = torch.arange(x.shape[-2])[:, None] / base ** (torch.arange(half).double() / half)
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=-1)

    def greedy(self, ids: list[int], visual: torch.Tensor) -> list[int]:
        """New tokens up to the end token, which is not among the first ones."""
        answer: list[int] = []
        while len(answer) < NEW_TOKENS and END not in answer:
            last = self.logits(ids + answer, visual)[-1]
            if len(answer) < NO_END:
                last[END] = -torch.inf
            answer.append(int(last.argmax()))
        return answer


def numbers_of(model: ReferenceModel, clips: dict[str, tuple[torch.Tensor, list[int]]]) -> dict[str, np.ndarray]:
    """What `benchmarks.released_numbers.compare` reads, for each clip's pixel values (F, 3, S, S) and ids."""
    numbers: dict[str, Any] = {}
    for clip, (pixels, ids) in clips.items():
        patches = model.tower(pixels)
        tokens, indices = model.select(patches)
        visual = model.project(tokens)
        logits = model.logits(ids, visual)
        numbers |= {
            f"{clip}.vision": patches[:, ::8],
            f"{clip}.adapter_logits": model.scores(patches),
            f"{clip}.indices": indices,
            f"{clip}.proj_out": visual,
            f"{clip}.logits_argmax": logits.argmax(-1)[None],
            f"{clip}.logits_lse": logits.logsumexp(-1)[None],
            f"{clip}.logits_last8": logits[None, -8:],
            f"{clip}.gen_ids": torch.tensor([[1, *model.greedy(ids, visual)]]),
        }
    numbers["AB.logits_last8"] = torch.cat([numbers[f"{clip}.logits_last8"] for clip in clips])
    return {name: value.numpy() for name, value in numbers.items()}


def training_numbers_of(
    model: ReferenceModel, batch: list[tuple[torch.Tensor, list[int], list[int]]]
) -> dict[str, np.ndarray]:
    """Loss and projector gradients of (pixel values, ids, labels) rows; labels are ids, or -100."""
    names = [f"llm_proj.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")]
    for name in names:
        model.t[name].requires_grad_()
    total, count = torch.zeros((), dtype=torch.double), 0
    for pixels, ids, labels in batch:
        visual = model.project(model.select(model.tower(pixels))[0])
        spread = [
            label
            for i, label in zip(ids, labels, strict=True)
            for label in [label] * (model.kept if i == IMAGE else 1)
        ]
        total = total + F.cross_entropy(model.logits(ids, visual)[:-1], torch.tensor(spread[1:]), reduction="sum")
        count += sum(label != -100 for label in spread[1:])
    loss = total / count
    gradients = torch.autograd.grad(loss, [model.t[name] for name in names])
    for name in names:
        model.t[name].requires_grad_(False)
    named = zip(names, gradients, strict=True)
    return {"T.loss": loss.detach().numpy(), **{f"T.grad.{name}": gradient.numpy() for name, gradient in named}}


# --------------------------------------------------------------------------------------------------------------
# the random checkpoint, its questions and their numbers
# --------------------------------------------------------------------------------------------------------------
def ids_of(text: str) -> list[int]:
    """A text in the authors' way: cut at images, `<s>` before every piece, each with its own word boundary."""
    pieces = text.split("<image>")
    ids = [[1, *pieces_of(piece)] for piece in pieces]
    return sum(([IMAGE, *part] for part in ids[1:]), ids[0])


def pieces_of(text: str) -> list[int]:
    return [PIECES.index(char) for char in "▁" + text.replace(" ", "▁")]


def box_text(box: np.ndarray) -> str:
    return "[" + ",".join(str(int(cell)) for cell in box) + "]"


def questions(seed: int = 0) -> dict[str, Any]:
    """Frames (F, 28, 28, 3) uint8, box cells (F, 4), prompt and answer of the clips A and B."""
    generator, found = np.random.default_rng(seed), {}
    for clip, count in zip(CLIPS, (3, 5), strict=True):
        corner = generator.integers(0, 60, (count, 2))
        cells = np.concatenate([corner, corner + generator.integers(5, 35, (count, 2))], axis=1)
        shown = ", ".join(f"Frame {number + 1}: <image>" for number in range(count))
        answer = ", ".join(f"Frame {number + 1}: {box_text(box)}" for number, box in enumerate(cells))
        found[clip] = {
            "frames": generator.integers(0, 256, (count, 28, 28, 3), dtype=np.uint8),
            "cells": cells,
            "prompt": f"{SYSTEM}USER: {shown}\n{WORDING.strip().replace('{box}', box_text(cells[0]))}ASSISTANT:",
            "answer": answer,
        }
    return found


def pixels_of(frames: np.ndarray) -> torch.Tensor:
    """Frames of the tower's size, normalized: (F, 3, S, S)."""
    normalized = (torch.from_numpy(frames).double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return normalized.movedim(-1, 1)


def random_numbers() -> dict[str, np.ndarray]:
    """All numbers of the random checkpoint, by the names that `benchmarks.released_numbers` reads."""
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        model = ReferenceModel.load(write_released(Path(scratch) / "source", released_tensors()))
    asked = questions()
    ids = {clip: ids_of(item["prompt"]) for clip, item in asked.items()}
    numbers = numbers_of(model, {clip: (pixels_of(item["frames"]), ids[clip]) for clip, item in asked.items()})
    batch, longest = [], 0
    for clip, item in asked.items():
        answer = [*pieces_of(item["answer"] + "."), END]
        batch.append((pixels_of(item["frames"]), ids[clip] + answer, [-100] * len(ids[clip]) + answer))
        longest = max(longest, len(batch[-1][1]))
        numbers |= {f"frames_vid{clip}": item["frames"], f"box_vid{clip}": item["cells"] / 100}
        numbers[f"{clip}.input_ids"] = np.array([ids[clip]])
    numbers |= training_numbers_of(model, batch)
    for name, place, filler in (("T.input_ids", 1, END), ("T.labels", 2, -100)):
        numbers[name] = np.array([row[place] + [filler] * (longest - len(row[place])) for row in batch])
    return numbers


def write_with_numbers(folder: Path) -> Path:
    """The random checkpoint with its numbers and texts, as `benchmarks.released_numbers` reads a folder."""
    write_released(folder, released_tensors())
    (folder / "oracle.npz").write_bytes(NUMBERS.read_bytes())
    texts = {clip: {"prompt": item["prompt"], "gt": item["answer"]} for clip, item in questions().items()}
    (folder / "texts.json").write_text(json.dumps(texts))
    return folder


if __name__ == "__main__":
    rounded = {k: v.astype(np.float32) if v.dtype == np.float64 and v.ndim else v for k, v in random_numbers().items()}
    np.savez_compressed(NUMBERS, **rounded)
