"""The authors' checkpoint becomes ours, and ours becomes theirs again; LLaVA-1.5 weights become a start for training.

    elysium convert SRC OUT [--llm PATH_OR_ID] [--vision PATH_OR_ID] [--dtype bf16] [--push-to ORG/NAME]
    elysium convert OUT BACK --to-original [--vision PATH_OR_ID]

The model is built on the meta device, so that memory holds a shard at a time; names and shapes are compared strictly
and OUT appears at once, complete or not at all.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoModel, GenerationConfig, PreTrainedTokenizerFast
from transformers.dynamic_module_utils import custom_object_save

from processing_elysium import ElysiumImageProcessor, ElysiumProcessor

from .configuration_elysium import ElysiumConfig
from .conversion.files import CheckpointReader, ShardWriter, find_folder, read_json, written_at_once
from .conversion.layouts import OURS, RELEASED, VISION_TOWER, dead_in_tower, detect_layout
from .conversion.plan import IMAGE_TOKEN, Plan, make_plan
from .modeling_elysium import ElysiumForConditionalGeneration

DTYPES = {
    "fp32": torch.float32,
    "float32": torch.float32,
    "bf16": torch.bfloat16,
    "bfloat16": torch.bfloat16,
    "fp16": torch.float16,
    "float16": torch.float16,
}
CARD = """---
library_name: transformers
pipeline_tag: image-text-to-text
tags: [elysium, video, object-tracking]
---
# {name}

Converted from {layout}: `{source}`. {start}The terms of the source apply to these weights.

{parameters} parameters in {dtype}; {kept} of {patches} visual tokens per frame.

```python
from transformers import pipeline

import tracking_elysium  # or trust_remote_code=True without the package

pipe = pipeline("video-tracking", model="{name}")
print(pipe("swans.mp4", expression="the black swan"))
```

Left out of the source ({count}): {dropped}.
"""


@dataclass
class Conversion:
    """What a conversion did.

    Attributes:
        tensors: how many were written.
        parameters: numbers in them.
        dropped: tensor of the source -> why it is not in the target.
        absent: tensors that the target's layout has and that could not be given.
        difference: largest difference between the logits of source and target; None where it was not asked for.
    """

    tensors: int = 0
    parameters: int = 0
    dropped: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    difference: float | None = None


def convert(
    src: str,
    out: str | Path,
    llm: str | None = None,
    vision: str | None = None,
    dtype: str | None = None,
    verify: bool = True,
    max_shard_bytes: int = 2 * 10**9,
) -> Conversion:
    """Convert a checkpoint of the authors (or LLaVA-1.5 weights) to a folder that `from_pretrained` reads.

    Args:
        src: folder or Hub id.
        out: folder to write; must be new or empty.
        llm: language model in place of the one that the checkpoint names.
        vision: vision tower in place of the one that the checkpoint names.
        dtype: one of `DTYPES`; None keeps every tensor as it is stored.
        verify: load both and compare the logits of a small input.
        max_shard_bytes: size of a weight file.

    Returns:
        What was done.

    Raises:
        ValueError: input that cannot be converted; nothing is written then.
    """
    target_dtype = _dtype(dtype)
    with written_at_once(Path(out)) as scratch:
        plan = make_plan(str(src), llm, vision)
        result, writer = Conversion(dropped=plan.dropped), ShardWriter(scratch, max_shard_bytes)
        stored: Counter[torch.dtype] = Counter()
        for key, tensor in plan.tensors(target_dtype):
            writer.add(key, tensor)
            stored[tensor.dtype] += tensor.numel()
        writer.close()
        result.tensors, result.parameters = len(plan.wanted), sum(stored.values())
        _set_dtype(plan.config, stored.most_common(1)[0][0])
        _write_rest(plan, scratch)
        card = _card(plan, result, src, Path(out).name)
        (scratch / "README.md").write_text(card, encoding="utf-8")
        if verify:
            result.difference = compare_logits(plan, scratch)
            if not result.difference <= 1e-5:
                raise ValueError(
                    f"the reloaded model's logits differ from those of {src} by {result.difference:g}: not written."
                )
    return result


def convert_to_original(
    src: str, out: str | Path, vision: str | None = None, dtype: str | None = None, max_shard_bytes: int = 2 * 10**9
) -> Conversion:
    """Convert one of our checkpoints to the authors' layout.

    Args:
        src: folder or Hub id of a T-Selector model with a CLIP tower.
        out: folder to write; must be new or empty.
        vision: checkpoint of the tower (a CLIP model, or the authors' own), which gives what ours leaves out: the
            layers past the one that is read. Without it these are absent.
        dtype: see `convert`.
        max_shard_bytes: see `convert`.

    Returns:
        What was done; `score_proj`, which is dead in the authors' code, is always absent.

    Raises:
        ValueError: input that cannot be converted; nothing is written then.
    """
    target_dtype = _dtype(dtype)
    folder = find_folder(src, "SRC")
    read_json(folder / "config.json")
    config = ElysiumConfig.from_pretrained(folder)
    _check_is_released_kind(config)
    reader = CheckpointReader(folder)
    detect_layout(reader.keys, str(folder), (OURS,))
    with written_at_once(Path(out)) as scratch:
        result, writer = Conversion(), ShardWriter(scratch, max_shard_bytes)
        for key, tensor in _backward(reader, config, vision, result):
            tensor = tensor.to(target_dtype) if target_dtype is not None else tensor
            writer.add(key, tensor)
            result.tensors, result.parameters = result.tensors + 1, result.parameters + tensor.numel()
        writer.close()
        _write_original_rest(folder, config, scratch)
    return result


def compare_logits(plan: Plan, folder: Path) -> float:
    """Return the largest difference between the source's logits and the written folder's on a small input.

    The two models are in memory one after the other, never together.
    """
    config = plan.config
    generator = torch.Generator().manual_seed(0)
    size = config.vision_config.image_size
    pixels = torch.randn(1, 3, size, size, generator=generator).to(config.dtype)
    words = torch.randint(3, min(config.text_config.vocab_size, config.image_token_id), (12,), generator=generator)
    frame = torch.full((config.num_image_tokens,), config.image_token_id)
    ids = torch.cat([words[:6], frame, words[6:]])[None]
    logits = []
    for source in ("tensors", "folder"):
        if source == "tensors":
            state = dict(plan.tensors(config.dtype))
            model = ElysiumForConditionalGeneration.from_pretrained(None, config=config, state_dict=state)
            del state
        else:
            model = ElysiumForConditionalGeneration.from_pretrained(folder, dtype=config.dtype)
        with torch.inference_mode():
            logits.append(model.eval()(input_ids=ids, pixel_values=pixels).logits.float())
        del model
    return float((logits[0] - logits[1]).abs().max())


# --------------------------------------------------------------------------------------------------------------
# everything but the weights
# --------------------------------------------------------------------------------------------------------------
def _write_rest(plan: Plan, folder: Path) -> None:
    """Write configurations, processor, tokenizer, and the code that loads them with `trust_remote_code`."""
    config, tokenizer = plan.config, plan.tokenizer
    from tracking_elysium.pipeline_video_tracking import CUSTOM_PIPELINES, carry_pipeline  # only a writer needs it

    config.architectures = [ElysiumForConditionalGeneration.__name__]
    config.custom_pipelines = CUSTOM_PIPELINES
    config.save_pretrained(folder)
    carry_pipeline(folder)
    with torch.device("meta"):
        custom_object_save(ElysiumForConditionalGeneration(config), folder, config=config)
    GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=[config.image_token_id],
    ).save_pretrained(folder)
    size = config.vision_config.image_size
    image_processor = ElysiumImageProcessor(size={"height": size, "width": size})
    ElysiumProcessor(
        image_processor, tokenizer, num_image_tokens=config.num_image_tokens, compat=plan.compat
    ).save_pretrained(folder)


def _card(plan: Plan, result: Conversion, src: str, name: str) -> str:
    reasons = Counter(result.dropped.values())
    start = "The selector has its start values: train it. " if plan.initial else ""
    return CARD.format(
        name=name,
        layout=plan.layout.name,
        source=Path(src).name if Path(src).is_dir() else src,
        start=start,
        parameters=f"{result.parameters:,}",
        dtype=str(plan.config.dtype).removeprefix("torch."),
        kept=plan.config.num_image_tokens,
        patches=plan.config.num_patches,
        count=len(result.dropped),
        dropped="; ".join(f"{count} tensors {reason}" for reason, count in reasons.items()) or "nothing",
    )


def _set_dtype(config: ElysiumConfig, dtype: torch.dtype) -> None:
    for part in (config, config.text_config, config.vision_config):
        part.dtype = dtype


# --------------------------------------------------------------------------------------------------------------
# the way back
# --------------------------------------------------------------------------------------------------------------
def _check_is_released_kind(config: ElysiumConfig) -> None:
    kind = (config.compressor_type, config.selector_scorer, config.vision_config.model_type)
    wanted = ("t_selector", "positional", "clip_vision_model")
    if kind != wanted or config.position_ids_mode != "packed":
        raise ValueError(
            "the authors' layout holds a positional T-Selector, a CLIP tower and packed positions; this model has "
            f"compressor_type={kind[0]!r}, selector_scorer={kind[1]!r}, vision_config.model_type={kind[2]!r}, "
            f"position_ids_mode={config.position_ids_mode!r}: it cannot be written so."
        )


def _backward(
    reader: CheckpointReader, config: ElysiumConfig, vision: str | None, result: Conversion
) -> Iterator[tuple[str, torch.Tensor]]:
    """(their name, tensor): ours, and from `vision` what ours has no place for."""
    for key, tensor in reader.tensors():
        yield RELEASED.to_theirs(OURS.to_ours(key)), tensor
    with torch.device("meta"):
        tower = AutoModel.from_config(config.vision_config)  # whole, unlike ours
    wanted = {f"model.vision_tower.{key}": tensor.shape for key, tensor in tower.state_dict().items()}
    wanted = {key: shape for key, shape in wanted.items() if dead_in_tower(key, config.num_vision_layers)}
    if vision is not None:
        tower_reader = CheckpointReader(find_folder(vision, "--vision"))
        layout = detect_layout(tower_reader.keys, vision, (RELEASED, VISION_TOWER))
        for key, tensor in tower_reader.tensors():
            ours = layout.to_ours(key)
            if ours in wanted:
                if tensor.shape != wanted[ours]:
                    raise ValueError(
                        f"{key} of --vision {vision} has shape {tuple(tensor.shape)}, wanted {tuple(wanted[ours])}."
                    )
                wanted.pop(ours)
                yield RELEASED.to_theirs(ours), tensor
    result.absent = [
        *(RELEASED.to_theirs(key) for key in wanted),
        "adapter.score_proj.weight",
        "adapter.score_proj.bias",
    ]


def _write_original_rest(folder: Path, config: ElysiumConfig, target: Path) -> None:
    """Write config.json as the authors nest it, with the base models' configurations and the tokenizer beside it."""
    for name, part in (("llm", config.text_config), ("clip", config.vision_config)):
        part.save_pretrained(target / name)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] != IMAGE_TOKEN]
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        model_max_length=tokenizer.model_max_length,
        **{name: getattr(tokenizer, name) for name in names},
    ).save_pretrained(target / "llm")
    fields: dict[str, Any] = {
        "architectures": ["ElysiumForCausalLM"],
        "model_type": "elysium",
        "hidden_size": config.text_config.hidden_size,
        "torch_dtype": str(config.dtype or torch.float32).removeprefix("torch."),
        "adapter_config": {
            "in_token_num": config.num_patches,
            "out_token_num": config.num_image_tokens,
            "num_features": config.vision_config.hidden_size,
        },
        "llm_config": {"pretrained_model_name_or_path": "llm"},
        "visual_config": {"pretrained_model_name_or_path": "clip"},
        "projector_config": {"type": "mlp2x_gelu"},
    }
    (target / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def _dtype(name: str | None) -> torch.dtype | None:
    if name is not None and name not in DTYPES:
        raise ValueError(f"--dtype {name!r} is unknown; use one of {', '.join(DTYPES)}.")
    return None if name is None else DTYPES[name]


def main(argv: list[str] | None = None) -> int:
    """Do the same as `elysium convert`."""
    from tracking_elysium.cli import main as elysium

    return elysium(["convert", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
