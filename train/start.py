"""The model that the first stage begins with: made from nothing, put together from pretrained halves, or read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    set_seed,
)

from dataset_scripts.synthetic import SyntheticConfig
from modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from processing_elysium import ElysiumImageProcessor, ElysiumProcessor

from .config import AssembleConfig, Recipe
from .engines import unsharded
from .miniature.alignment import align
from .miniature.build import _SYSTEM, IMAGE, build_model
from .miniature.pretrain_tower import pretrain_tower

__all__ = ["assemble", "make_start"]

# Mean and deviation of pixels by the beginning of the tower's type, for folders that do not say.
NORMALIZATION = {
    "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
    "siglip": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    "dinov2": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}


def make_start(recipe: Recipe, output: Path) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    """Make the model and the processor that a recipe starts from. One process calls this.

    Args:
        recipe: its `build`, `assemble` or `model`, and `tower`.
        output: folder of the run; the tower's pretraining is kept there.
    """
    with unsharded():
        if recipe.build is not None:
            model, processor = build_model(recipe.build, recipe.seed)
        elif recipe.assemble is not None:
            model, processor = assemble(recipe.assemble, recipe.seed)
        else:
            assert recipe.model is not None  # a recipe has one of the three
            model = ElysiumForConditionalGeneration.from_pretrained(recipe.model)
            processor = ElysiumProcessor.from_pretrained(recipe.model)
        if recipe.tower is not None:
            vision: Any = model.config.vision_config
            synthetic = SyntheticConfig(recipe.tower.data_seed, vision.image_size)
            pretrain_tower(
                model.model.vision_tower,
                processor.image_processor,
                synthetic,
                recipe.tower,
                output / "tower",
                workers=recipe.workers,
            )
            if recipe.tower.align_steps:
                print("alignment:", align(model.model, processor, synthetic, recipe.tower, recipe.workers))
    return model, processor


def assemble(settings: AssembleConfig, seed: int) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    """Put a pretrained vision tower and a pretrained language model together (paper, section 3.2 and 4.1).

    Selector and projector are new. The image token gets an id after the language model's own, which needs no row in
    its embedding.

    Args:
        settings: where the halves are.
        seed: of the new weights.

    Returns:
        The model in float32 and its processor.

    Raises:
        ValueError: a half does not load, or its weights do not fit.
    """
    gguf = {} if settings.gguf_file is None else {"gguf_file": settings.gguf_file}
    causal = _read(AutoModelForCausalLM, settings.text, "text", dtype=torch.float32, **gguf)
    tower = _read(AutoModel, settings.vision, "vision", dtype=torch.float32)
    tower = getattr(tower, "vision_model", tower) if hasattr(tower, "text_model") else tower  # both halves of a CLIP
    tokenizer = _tokenizer(settings, gguf)
    vision_config = tower.config
    if settings.image_size is not None:
        vision_config = type(vision_config)(**{**vision_config.to_dict(), "image_size": settings.image_size})
    text_config = causal.config
    if settings.gguf_file is not None:  # read into float32; the note would forbid to train it
        del text_config.quantization_config
    image_token_id: Any = tokenizer.convert_tokens_to_ids(IMAGE)
    config = ElysiumConfig(
        vision_config=vision_config,
        text_config=text_config,
        image_token_id=image_token_id,
        tie_word_embeddings=bool(getattr(text_config, "tie_word_embeddings", False)),
        **settings.elysium,
    )
    set_seed(seed)
    model = ElysiumForConditionalGeneration(config)
    _take_text(model, causal)
    _take_tower(model, tower)
    size = vision_config.image_size
    normalization: dict[str, Any] = _normalization(settings.vision, vision_config.model_type)
    processor = ElysiumProcessor(
        image_processor=ElysiumImageProcessor(size={"height": size, "width": size}, **normalization),
        tokenizer=tokenizer,
        num_image_tokens=config.num_image_tokens,
    )
    if settings.system is not None:
        template = f'set vicuna = "{settings.system}"'
        processor.chat_template = _SYSTEM.sub(lambda _: template, str(processor.chat_template), count=1)
    return model, processor


def _read(kind: Any, name: str, key: str, **options: Any) -> Any:
    """`from_pretrained`, with the recipe's key in the error."""
    try:
        return kind.from_pretrained(name, **options)
    except (OSError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"assemble: {key}: {name!r} does not load ({reason}); give a folder with weights and config.json, or a "
            "Hub id that this machine can reach."
        ) from error


def _tokenizer(settings: AssembleConfig, gguf: dict[str, str]) -> PreTrainedTokenizerFast:
    """The language model's tokenizer with the image token, padding on the left."""
    loaded = _read(AutoTokenizer, settings.text, "text", **gguf)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=loaded.backend_tokenizer,
        bos_token=loaded.bos_token,
        eos_token=loaded.eos_token,
        unk_token=loaded.unk_token,
        pad_token=loaded.pad_token or loaded.unk_token or loaded.eos_token,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([IMAGE], special_tokens=True)
    return tokenizer


@torch.no_grad()
def _take_text(model: ElysiumForConditionalGeneration, causal: Any) -> None:
    """Copy the language model and its head; every tensor has to fit."""
    model.model.language_model.load_state_dict(causal.base_model.state_dict(), strict=True)
    head = causal.get_output_embeddings()
    model.lm_head.load_state_dict(head.state_dict(), strict=True)
    model.tie_weights()


@torch.no_grad()
def _take_tower(model: ElysiumForConditionalGeneration, tower: Any) -> None:
    """Copy the tower as far as it is built; position embeddings of another frame size are interpolated."""
    ours = model.model.vision_tower
    vision: Any = model.config.vision_config
    wanted, state = ours.state_dict(), tower.state_dict()
    for name in wanted:
        if "position_embedding" in name and name in state and state[name].shape != wanted[name].shape:
            width = wanted[name].shape[-1]
            dummy = torch.zeros(1, wanted[name].numel() // width, width)
            positions = tower.embeddings.interpolate_pos_encoding(dummy, vision.image_size, vision.image_size)
            state[name] = positions.reshape(wanted[name].shape)
    missing = sorted(set(wanted) - set(state) - {name for name in wanted if name.endswith("position_ids")})
    if missing:
        raise ValueError(
            f"assemble: vision: the tower lacks {missing[:5]} ({len(missing)} tensors); give a whole model."
        )
    ours.load_state_dict({name: state[name] for name in wanted if name in state}, strict=False)


def _normalization(vision: str, model_type: str) -> dict[str, list[float]]:
    """Mean and deviation of pixels as the tower was trained with."""
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(vision)
        mean, std = processor.image_mean, processor.image_std
    except (OSError, ValueError, ImportError):  # no preprocessor_config.json
        mean, std = next(values for name, values in NORMALIZATION.items() if model_type.startswith(name))
    return {"image_mean": list(mean), "image_std": list(std)}
