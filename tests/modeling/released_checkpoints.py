"""Random checkpoints in the layouts that can be converted, made in the process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedTokenizerFast

# The fixture of the authors' code is not part of this repository; tests that need it skip.
FIXTURE = Path(__file__).resolve().parents[2].parent / "shared" / "fixtures" / "official_tiny"
KEPT, SIDE = 6, 28
PIECES = ["<unk>", "<s>", "</s>", "▁", "\n", *map(chr, range(33, 127))]


def llama_like_tokenizer() -> PreTrainedTokenizerFast:
    """Characters as pieces, with sentencepiece's word boundary and Llama's special ids."""
    backend = Tokenizer(models.BPE({piece: i for i, piece in enumerate(PIECES)}, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", split=False)
    backend.decoder = decoders.Metaspace("▁", "first", split=False)
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def tower_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=7,
        projection_dim=32,
    )


def language_config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=99,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=0,
    )


def released_tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint as the authors name them, random."""
    block = {"input_layernorm": (48,), "post_attention_layernorm": (48,)}
    block |= {"self_attn.q_proj": (48, 48), "self_attn.k_proj": (24, 48), "self_attn.v_proj": (24, 48)}
    block |= {"self_attn.o_proj": (48, 48), "mlp.gate_proj": (96, 48), "mlp.up_proj": (96, 48)}
    block |= {"mlp.down_proj": (48, 96)}
    shapes: dict[str, tuple[int, ...]] = {"llm.model.embed_tokens.weight": (99, 48), "llm.model.norm.weight": (48,)}
    shapes |= {f"llm.model.layers.{i}.{name}.weight": shape for i in range(2) for name, shape in block.items()}
    shapes["llm.lm_head.weight"] = (99, 48)
    tower = "visual_encoder.vision_model."
    shapes[tower + "embeddings.class_embedding"] = (32,)
    shapes[tower + "embeddings.patch_embedding.weight"] = (32, 3, 7, 7)
    shapes[tower + "embeddings.position_embedding.weight"] = (17, 32)
    linear = {"mlp.fc1": (64, 32), "mlp.fc2": (32, 64), "layer_norm1": (32,), "layer_norm2": (32,)}
    linear |= {f"self_attn.{name}_proj": (32, 32) for name in ("q", "k", "v", "out")}
    layers = {f"encoder.layers.{i}.{name}": shape for i in range(3) for name, shape in linear.items()}
    for name, shape in {**layers, "pre_layrnorm": (32,), "post_layernorm": (32,)}.items():
        shapes |= {f"{tower}{name}.weight": shape, f"{tower}{name}.bias": shape[:1]}
    shapes |= {"adapter.trans_weight": (16, 16), "adapter.trans_bias": (16,)}
    shapes |= {"adapter.pre_proj.weight": (1, 32), "adapter.pre_proj.bias": (1,)}
    shapes |= {"adapter.score_proj.weight": (KEPT, 16), "adapter.score_proj.bias": (KEPT,)}
    shapes |= {"llm_proj.0.weight": (48, 32), "llm_proj.0.bias": (48,)}
    shapes |= {"llm_proj.2.weight": (48, 48), "llm_proj.2.bias": (48,)}
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}


def write_released(folder: Path, tensors: dict[str, torch.Tensor] | None = None, **fields: Any) -> Path:
    """A checkpoint folder in the authors' layout."""
    folder.mkdir(parents=True, exist_ok=True)
    language_config().save_pretrained(folder / "llm")
    llama_like_tokenizer().save_pretrained(folder / "llm")
    tower_config().save_pretrained(folder / "clip")
    config = {
        "model_type": "elysium",
        "adapter_config": {"in_token_num": 16, "out_token_num": KEPT, "num_features": 32},
        "llm_config": {"pretrained_model_name_or_path": "llm"},
        "visual_config": {"pretrained_model_name_or_path": "clip"},
        "projector_config": {"type": "mlp2x_gelu"},
        **fields,
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(released_tensors() if tensors is None else tensors, folder / "model.safetensors")
    return folder


def write_shards(folder: Path, tensors: dict[str, torch.Tensor], count: int = 3) -> None:
    """The tensors in shards with an index, in place of the single file."""
    (folder / "model.safetensors").unlink(missing_ok=True)
    names, weight_map = sorted(tensors), {}
    for number in range(count):
        file = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
        part = {name: tensors[name] for name in names[number::count]}
        save_file(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def write_llava(folder: Path) -> Path:
    """LLaVA-1.5 as transformers 4 saved it; its embedding has rows for `<image>` already."""
    folder.mkdir(parents=True)
    text, vision = language_config().to_dict(), tower_config().to_dict()
    config = {"model_type": "llava", "text_config": text, "vision_config": vision, "image_token_index": 99}
    text["vocab_size"] = 101
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = llama_like_tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    names = {"llm.model.": "language_model.model.", "llm.lm_head.": "language_model.lm_head."}
    names |= {"visual_encoder.vision_model.": "vision_tower.vision_model."}
    names |= {"llm_proj.0.": "multi_modal_projector.linear_1.", "llm_proj.2.": "multi_modal_projector.linear_2."}
    tensors = {}
    for key, tensor in released_tensors().items():
        for theirs, llava in names.items():
            if key.startswith(theirs):
                wide = torch.cat([tensor, tensor[:2]]) if tensor.shape == (99, 48) else tensor
                tensors[llava + key[len(theirs) :]] = wide
    save_file(tensors, folder / "model.safetensors")
    return folder
