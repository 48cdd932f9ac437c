"""What a checkpoint holds, as a plan for the converter: configuration, tokenizer, and where each tensor comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, LlamaConfig, PreTrainedConfig, PreTrainedTokenizerFast

from ..configuration_elysium import ElysiumConfig
from ..modeling_elysium import ElysiumForConditionalGeneration
from ..token_compression import build_compressor
from .files import CheckpointReader, find_folder, mapping_of, read_json
from .layouts import (
    LANGUAGE_MODEL,
    OURS,
    RELEASED,
    VISION_TOWER,
    Layout,
    dead_in_tower,
    detect_layout,
)

IMAGE_TOKEN = "<image>"
PROJECTORS = ("mlp2x_gelu",)


@dataclass
class Plan:
    """Everything needed to write the target, before anything is written.

    Attributes:
        config: of the target.
        tokenizer: with the image token.
        compat: text conventions of the processor.
        layout: of the source.
        parts: readers with their layouts; the first that has a tensor gives it.
        wanted: shape of every tensor of the target.
        initial: tensors that the source does not have and training starts from.
        dropped: tensor of the source -> why the target does not have it.
    """

    config: ElysiumConfig
    tokenizer: Any
    compat: str | None
    layout: Layout
    parts: list[tuple[CheckpointReader, Layout]]
    wanted: dict[str, torch.Size]
    initial: dict[str, torch.Tensor] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)

    def tensors(self, dtype: torch.dtype | None = None) -> Iterator[tuple[str, torch.Tensor]]:
        """(our name, tensor) of the whole target, one at a time.

        Raises:
            ValueError: a tensor has another shape than the configuration says.
        """
        done = set(self.initial)
        for reader, layout in self.parts:
            for key, tensor in reader.tensors():
                ours = self._place(key, layout)
                if ours is None or ours in done:
                    continue
                if tensor.shape != self.wanted[ours]:
                    raise ValueError(
                        f"{key} of {reader.keys[key]} has shape {tuple(tensor.shape)}, but the configuration asks for "
                        f"{tuple(self.wanted[ours])} ({ours}); check which base models the checkpoint was made from."
                    )
                done.add(ours)
                yield ours, _cast(tensor, dtype)
        for key, tensor in self.initial.items():
            yield key, _cast(tensor, dtype)

    def check_keys(self) -> None:
        """Compare names, without reading a tensor; fills `dropped`.

        Raises:
            ValueError: tensors are missing, or the first part holds some that have no place.
        """
        found, strange = set(self.initial), []
        for number, (reader, layout) in enumerate(self.parts):
            for key in reader.keys:
                ours = self._place(key, layout)
                if ours is not None:
                    found.add(ours)
                elif number == 0:
                    reason = self.why_dropped(key, layout)
                    if reason is None:
                        strange.append(key)
                    else:
                        self.dropped[key] = reason
        if strange:
            raise ValueError(
                f"{self.parts[0][0].folder} holds tensors that have no place in the model: {_some(strange)}; it is a "
                "checkpoint of another architecture or depth than its configuration says."
            )
        missing = sorted(set(self.wanted) - found)
        if missing:
            theirs = [self.layout.to_theirs(key) or key for key in missing]
            raise ValueError(
                f"{self.parts[0][0].folder} lacks {len(missing)} tensors: {_some(theirs)}; if they are those of a "
                "base model, pass its weights with --llm or --vision."
            )

    def why_dropped(self, key: str, layout: Layout) -> str | None:
        """Why a tensor of the source is not in the target; None where it should be."""
        reason = layout.why_dropped(key)
        if reason is None and (ours := layout.to_ours(key)) is not None:
            reason = dead_in_tower(ours, self.config.num_vision_layers)
            if ours == "lm_head.weight" and self.config.tie_word_embeddings:
                reason = "the same as the embedding"
        return reason

    def _place(self, key: str, layout: Layout) -> str | None:
        ours = None if layout.why_dropped(key) else layout.to_ours(key)
        return ours if ours in self.wanted else None


def make_plan(src: str, llm: str | None = None, vision: str | None = None) -> Plan:
    """Read everything about a checkpoint but its tensors.

    Args:
        src: folder or Hub id, in the authors' layout or one of LLaVA-1.5's.
        llm: folder or Hub id of the language model, in place of the one that the configuration names.
        vision: the same for the vision tower.

    Raises:
        ValueError: see the messages; nothing is written before this returns.
    """
    folder = find_folder(src, "SRC")
    fields = read_json(folder / "config.json")
    reader = CheckpointReader(folder)
    layout = detect_layout(reader.keys, str(folder))
    if layout is OURS:
        raise ValueError(f"{folder} is converted already; pass --to-original to go back.")
    released = layout is RELEASED
    if released:
        _check_released(fields, reader)
    homes = _homes(folder, fields, llm, vision, released)
    text_config, vision_config = _base_configs(folder, fields, homes)
    tokenizer = load_tokenizer(homes.get("llm", folder))
    adapter = {
        key: _whole_number(value, f"{folder / 'config.json'}: adapter_config: {key}")
        for key, value in mapping_of(fields, "adapter_config", folder / "config.json").items()
        if key in ("in_token_num", "out_token_num")
    }
    share = 108 * (vision_config.image_size // vision_config.patch_size) ** 2 // 576  # the paper's, for LLaVA
    config = ElysiumConfig(
        text_config=text_config.to_dict(),
        vision_config=vision_config.to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        num_image_tokens=adapter.get("out_token_num", max(share, 1)),
        projector_bias=any((layout.to_ours(key) or "").endswith("linear_1.bias") for key in reader.keys),
    )
    patches = adapter.get("in_token_num", config.num_patches)
    if patches != config.num_patches:
        raise ValueError(
            f"adapter_config has in_token_num={patches}, but the tower gives {config.num_patches} patches."
        )
    with torch.device("meta"):
        model = ElysiumForConditionalGeneration(config)
    wanted = {key: tensor.shape for key, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        wanted.pop("lm_head.weight")
    plan = Plan(config, tokenizer, "released" if released else None, layout, [(reader, layout)], wanted)
    if not released:
        plan.initial = _initial_selector(model)
    _add_base_weights(plan, homes)
    plan.check_keys()
    return plan


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder as a plain fast one, with the image token and `<unk>` for padding if it has none.

    Raises:
        ValueError: no tokenizer, or a slow one.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        backend = tokenizer.backend_tokenizer
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        advice = "pass --llm with one"
        lacking = _lacking_for_sentencepiece()
        if lacking and (folder / "tokenizer.model").exists() and not (folder / "tokenizer.json").exists():
            reason, extra = "it has tokenizer.model and no tokenizer.json", '`pip install -e ".[convert]"`'
            advice = f"reading that needs {' and '.join(lacking)}: {extra} in a clone, or install them by name"
        raise ValueError(f"{folder} holds no tokenizer that can be read ({reason}); {advice}.") from None
    # The plain class keeps tokenizer.json as it is; Llama's own class would rebuild it when it is read again.
    plain = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
        unk_token=tokenizer.unk_token,
        pad_token=tokenizer.pad_token or tokenizer.unk_token,
        model_max_length=tokenizer.model_max_length,
        clean_up_tokenization_spaces=False,
    )
    plain.add_tokens([IMAGE_TOKEN], special_tokens=True)
    return plain


def _lacking_for_sentencepiece() -> list[str]:
    """The packages of the extra `convert` that are not installed."""
    modules = {"protobuf": ("google", "google.protobuf"), "sentencepiece": ("sentencepiece",)}  # parents first
    return [name for name, wanted in modules.items() if not all(map(find_spec, wanted))]


def _check_released(fields: dict[str, Any], reader: CheckpointReader) -> None:
    """Raise ValueError for an adapter or a projector that is not the published one."""
    if "adapter.trans_weight" not in reader.keys:
        names = sorted(key for key in reader.keys if key.startswith("adapter."))
        raise ValueError(
            f"{reader.folder} has an unknown compressor: its adapter holds {_some(names)}, and the supported one (the "
            "T-Selector) holds adapter.trans_weight, adapter.trans_bias and adapter.pre_proj."
        )
    projector = mapping_of(fields, "projector_config", reader.folder / "config.json")
    kind = projector.get("type", PROJECTORS[0])
    if kind not in PROJECTORS:
        raise ValueError(f"projector_config has type {kind!r}; supported is {', '.join(map(repr, PROJECTORS))}.")


def _whole_number(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{what} is {value!r}; expected a whole number from 1 on: correct the file.")
    return value


def _homes(
    folder: Path, fields: dict[str, Any], llm: str | None, vision: str | None, released: bool
) -> dict[str, Path]:
    """The folders of the base models, where they are not the checkpoint's own."""
    homes = {}
    for part, given, key in (("llm", llm, "llm_config"), ("vision", vision, "visual_config")):
        starts: tuple[Path, ...]
        flag, starts, name = f"--{part}", (Path(),), given
        if given is None:
            # Relative names in a configuration start from it; a folder of that name elsewhere is chance.
            flag, starts = f"config.json (pass --{part} for another): {key}", (folder, Path())
            if released:
                name = mapping_of(fields, key, folder / "config.json").get("pretrained_model_name_or_path")
            elif part == "vision" and "vision_config" not in fields:
                name = fields.get("mm_vision_tower")
            else:
                continue
        if not name or not isinstance(name, str):
            raise ValueError(f"{folder / 'config.json'} does not name a base model for {part}; pass --{part}.")
        homes[part] = find_folder(name, flag, starts, weights=not released or given is not None)
    return homes


def _base_configs(
    folder: Path, fields: dict[str, Any], homes: dict[str, Path]
) -> tuple[PreTrainedConfig, PreTrainedConfig]:
    """Configuration of the language model and of the vision tower."""
    if "llm" in homes:
        text_config = _read_config(homes["llm"])
    elif "text_config" in fields:
        text_config = _read_config(folder).text_config
    else:  # LLaVA's own repository writes Llama's fields and its own in one
        known = {key: value for key, value in fields.items() if key in LlamaConfig().to_dict()}
        text_config = _checked_config(lambda: LlamaConfig(**known), folder)
    vision_config = _read_config(homes.get("vision", folder))
    # A CLIP (or LLaVA) configuration holds that of its tower.
    return text_config, getattr(vision_config, "vision_config", vision_config)


def _read_config(folder: Path) -> PreTrainedConfig:
    path = folder / "config.json"
    fields = read_json(path)
    for key in ("text_config", "vision_config"):
        mapping_of(fields, key, path)
    return _checked_config(lambda: AutoConfig.from_pretrained(folder), folder)


def _checked_config(make: Callable[[], PreTrainedConfig], folder: Path) -> PreTrainedConfig:
    """A configuration of the library, whose many errors become one."""
    try:
        return make()
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"{folder / 'config.json'} is not a configuration that can be read ({reason}).") from None


def _add_base_weights(plan: Plan, homes: dict[str, Path]) -> None:
    """Let the folders of the base models give what the checkpoint itself does not hold (it may be kept apart)."""
    main = plan.parts[0][0]
    found = {plan.layout.to_ours(key) for key in main.keys} | set(plan.initial)
    for prefix, name, layout in (
        ("model.vision_tower.", "vision", VISION_TOWER),
        ("model.language_model.", "llm", LANGUAGE_MODEL),
    ):
        lacking = any(key.startswith(prefix) and key not in found for key in plan.wanted)
        home = homes.get(name, main.folder)
        if lacking and home != main.folder and any(home.glob("*.safetensors")) | any(home.glob("*.bin")):
            reader = CheckpointReader(home)
            plan.parts.append((reader, detect_layout(reader.keys, str(home), (layout,))))


def _initial_selector(model: ElysiumForConditionalGeneration) -> dict[str, torch.Tensor]:
    """Start values of a selector for weights that have none, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        selector = build_compressor(model.config)
        for module in (*selector.children(), selector):
            model._init_weights(module)
    return {f"model.selector.{key}": tensor for key, tensor in selector.state_dict().items()}


def _cast(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
