"""Elysium: frames through a vision tower and a token compressor into a decoder-only language model.

Shapes: B batch, F frames of the whole batch, N patches per frame, K kept, C vision width, D text width, T tokens,
V vocabulary. Paper section 3.2; the layout follows LLaVA in transformers.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils.generic import can_return_tuple

from .configuration_elysium import ElysiumConfig, let_others_read, replace_code_links
from .expression_similarity import ExpressionSimilarity
from .image_features import NUM_CHANNELS, ImageFeatures
from .outputs import (
    CACHE_NAME,
    ElysiumCausalLMOutputWithPast,
    ElysiumImageFeatures,
    ElysiumModelOutputWithPast,
    one_cache,
)
from .position_ids import check_counts, check_embedded, packed_position_ids, raster_position_ids
from .token_compression import build_compressor
from .vision_tower import ElysiumProjector, build_vision_tower


class ElysiumPreTrainedModel(PreTrainedModel):
    """What all Elysium models share: weight initialization and the features that the library may use."""

    config_class = ElysiumConfig
    config: ElysiumConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    cache_name = CACHE_NAME  # the language model's argument for the cache
    _skip_keys_device_placement = ["past_key_values", "cache"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if hasattr(module, "init_own_weights"):
            module.init_own_weights()

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save as the library does; weights readable as any new file, code files that are links (a clone's) real ones.

        Args:
            save_directory: folder to write to.
            *args: passed on to `PreTrainedModel.save_pretrained`.
            **kwargs: likewise.
        """
        replace_code_links(save_directory)
        super().save_pretrained(save_directory, *args, **kwargs)
        let_others_read(save_directory)


class ElysiumModel(ImageFeatures, ElysiumPreTrainedModel):
    """Vision tower, token compressor, projector and language model, without a language modeling head.

    Args:
        config: model configuration.
    """

    # Not quantized, and float32 in a float16 model; the library matches from the start of a module's name.
    _keep_in_fp32_modules = ["selector", "multi_modal_projector", "expression_similarity"]
    # A checkpoint may hold the head, and the part of the tower past the layer that is read.
    _keys_to_ignore_on_load_unexpected = [
        r"^lm_head\.",
        r"vision_tower\.(encoder\.layers?\.\d+|post_layernorm|layernorm|head)\.",
        r"vision_tower\.embeddings\.mask_token",
    ]

    def __init__(self, config: ElysiumConfig) -> None:
        super().__init__(config)
        config.check()  # `from_pretrained(..., num_image_tokens=...)` changes fields after construction
        self.vision_tower = build_vision_tower(config)
        self.selector = build_compressor(config)
        channels = NUM_CHANNELS if config.reference_similarity else 0
        self.multi_modal_projector = ElysiumProjector(config, self.selector.output_size + channels)
        if config.patch_position_embedding:
            self.patch_positions = nn.Embedding(config.num_patches, config.text_config.hidden_size)
        if config.expression_similarity:
            self.expression_similarity = ExpressionSimilarity(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding of the language model."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding of the language model."""
        self.language_model.set_input_embeddings(value)

    def get_placeholder_mask(
        self, input_ids: torch.LongTensor | None, inputs_embeds: torch.FloatTensor | None
    ) -> torch.Tensor:
        """Find the placeholders of visual tokens.

        Args:
            input_ids: token ids of shape `(B, T)`, or None.
            inputs_embeds: embeddings of shape `(B, T, D)`, read only where `input_ids` is None.

        Returns:
            True at placeholders, shape `(B, T)`.
        """
        if input_ids is not None:
            return input_ids == self.config.image_token_id
        check_embedded(self.config.image_token_id, self.config.text_config.vocab_size)
        placeholder = torch.tensor(self.config.image_token_id, device=inputs_embeds.device)
        return (inputs_embeds == self.get_input_embeddings()(placeholder)).all(dim=-1)

    def get_position_ids(
        self,
        placeholder_mask: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        features: ElysiumImageFeatures | None = None,
        past_length: int = 0,
    ) -> torch.Tensor:
        """Compute position ids of the configured mode for whole sequences, cached part included.

        Args:
            placeholder_mask: True at visual tokens, shape `(B, T)`.
            attention_mask: 1 at attended tokens, shape `(B, T)`; all of them if None.
            features: visual tokens of the frames after `past_length`, with their kept indices.
            past_length: tokens already in the cache. The positions of cached visual tokens are not used again, so
                their frames are not needed.

        Returns:
            Position ids of shape `(B, T)`, 0 at padding.

        Raises:
            ValueError: if the kept indices are missing or do not fill the placeholders after `past_length`.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(placeholder_mask, dtype=torch.long)
        num_kept, num_patches = self.config.num_image_tokens, self.config.num_patches
        if self.config.position_ids_mode == "packed" or num_kept == num_patches:
            return packed_position_ids(attention_mask)
        kept_indices = None if features is None else features.kept_indices
        if features is not None and kept_indices is None:
            raise ValueError("features have no kept_indices: pass what get_image_features returns")
        return raster_position_ids(placeholder_mask, attention_mask, num_kept, num_patches, kept_indices, past_length)

    def _merge(
        self,
        input_ids: torch.LongTensor | None,
        inputs_embeds: torch.FloatTensor | None,
        features: ElysiumImageFeatures | None,
        is_prefill: bool,
    ) -> tuple[torch.FloatTensor, torch.FloatTensor | None]:
        """Put visual tokens in the place of their placeholders; returns embeddings and visual tokens."""
        # Embeddings without frames may be merged already, as serving engines do.
        look = features is not None or (is_prefill and inputs_embeds is None)
        mask = self.get_placeholder_mask(input_ids, inputs_embeds) if look else None
        if inputs_embeds is None:
            if look and self.config.image_token_id >= self.config.text_config.vocab_size:
                input_ids = input_ids.masked_fill(mask, 0)  # the placeholder has no row in the embedding
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if features is None:
            if look and not torch.compiler.is_compiling():
                check_counts(mask.sum(), 0, self.config.num_image_tokens)
            return inputs_embeds, None
        tokens = torch.cat(list(features.pooler_output), dim=0).to(inputs_embeds.device, inputs_embeds.dtype)
        check_counts(mask.sum(), tokens.shape[0], self.config.num_image_tokens)
        return inputs_embeds.masked_scatter(mask.unsqueeze(-1).to(inputs_embeds.device), tokens), tokens

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        mm_encoder_outputs: dict[str, ElysiumImageFeatures] | None = None,
        mm_token_type_ids: torch.LongTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        cache: Cache | None = None,
        reference_frames: torch.LongTensor | None = None,
        reference_boxes: torch.FloatTensor | None = None,
        expression_ids: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> ElysiumModelOutputWithPast:
        """Run the model on token ids (or embeddings) with frames.

        Args:
            input_ids: token ids of shape `(B, T)`; K placeholders per frame.
            pixel_values: frames of shape `(F, 3, H, W)` in the order of their placeholders, row by row.
            attention_mask: 1 at attended tokens, shape `(B, cached + T)`, or a prepared 4-D mask.
            position_ids: final position ids of shape `(B, T)`, taken as they are.
            past_key_values: the same as `cache`, by its name before transformers 5.24.
            inputs_embeds: embeddings of shape `(B, T, D)` in place of `input_ids`.
            mm_encoder_outputs: `{"image": get_image_features(...)}` in place of `pixel_values`; not changed.
            mm_token_type_ids: not used; processors give it, and the placeholders say the same.
            token_type_ids: not used; tokenizers may give it.
            cache: cache of the tokens before these.
            reference_frames: goes with `pixel_values`, see `get_image_features`.
            reference_boxes: goes with `pixel_values`, see `get_image_features`.
            expression_ids: goes with `pixel_values`, see `get_image_features`.
            **kwargs: passed on to the language model.

        Returns:
            The language model's hidden states and cache.

        Raises:
            ValueError: if both or neither of two alternative inputs are given, or if the number of placeholders is not
                the number of visual tokens.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass exactly one of input_ids and inputs_embeds")
        cache = one_cache(cache, past_key_values)
        features = mm_encoder_outputs.get("image") if mm_encoder_outputs else None
        if pixel_values is not None:
            if features is not None:
                raise ValueError("pass pixel_values or mm_encoder_outputs['image'], not both")
            linked = (reference_frames, reference_boxes, expression_ids)
            features = self.get_image_features(pixel_values, *linked, return_dict=True)
        # A decoding step has no frames, and looking for them would cost a device sync.
        is_prefill = cache is None or (input_ids if inputs_embeds is None else inputs_embeds).shape[1] > 1
        if self.config.position_ids_mode == "original":
            if position_ids is None:
                mask = self.get_placeholder_mask(input_ids, inputs_embeds)
                position_ids = self._original_position_ids(mask, features, attention_mask, cache)
            if attention_mask is None and cache is None:
                # Without a mask the library takes a jump in the positions for the start of another packed sequence.
                attention_mask = torch.ones_like(position_ids)
        inputs_embeds, image_tokens = self._merge(input_ids, inputs_embeds, features, is_prefill)
        outputs = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **{CACHE_NAME: cache},
            **kwargs,
        )
        return ElysiumModelOutputWithPast(
            last_hidden_state=outputs.last_hidden_state,
            **{CACHE_NAME: getattr(outputs, CACHE_NAME)},
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=image_tokens,
        )

    def _original_position_ids(
        self,
        placeholder_mask: torch.BoolTensor,
        features: ElysiumImageFeatures | None,
        attention_mask: torch.Tensor | None,
        cache: Cache | None,
    ) -> torch.LongTensor:
        """Compute the positions of `position_ids_mode="original"` where the caller gives none."""
        if cache is not None and cache.get_seq_length() > 0:
            raise ValueError(
                "position_ids_mode='original' cannot tell the positions of tokens after a cache, whose frames are not "
                "seen here: pass position_ids, taken from get_position_ids on the whole sequence."
            )
        if attention_mask is not None and attention_mask.ndim != 2:
            attention_mask = None
        return self.get_position_ids(placeholder_mask, attention_mask, features)


class ElysiumForConditionalGeneration(ElysiumPreTrainedModel, GenerationMixin):
    """Elysium with a language modeling head: answers as text, boxes included.

    Args:
        config: model configuration.
    """

    _tp_plan = {"lm_head": "colwise_gather_output"}
    _keep_in_fp32_modules = ["model.selector", "model.multi_modal_projector", "model.expression_similarity"]

    def __init__(self, config: ElysiumConfig) -> None:
        super().__init__(config)
        self.model = ElysiumModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        words = self.get_input_embeddings()
        name = next(name for name, module in self.named_modules() if module is words)  # not the same in all models
        self._tied_weights_keys = {"lm_head.weight": f"{name}.weight"}
        # A generated placeholder would stand for no frame.
        self.generation_config.suppress_tokens = [config.image_token_id]
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """Return the language modeling head."""
        return self.lm_head

    def get_image_features(self, pixel_values: torch.FloatTensor, **kwargs: Any) -> ElysiumImageFeatures:
        """Encode frames `(F, 3, H, W)`; see [`ElysiumModel.get_image_features`]."""
        return self.model.get_image_features(pixel_values, **kwargs)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map hidden states to logits: the head, and the scaling or capping that some language models define.

        This is the only place that does; `forward`, the trainer's loss and the tracking decoder call it.

        Args:
            hidden_states: the language model's last hidden states, of shape `(..., D)`.

        Returns:
            Logits of shape `(..., V)`.
        """
        logits = self.lm_head(hidden_states)
        text_config = self.config.text_config
        for name in ("logit_scale", "lm_head_multiplier"):  # Cohere; Falcon-H1
            if (factor := getattr(text_config, name, None)) is not None:
                logits = logits * factor
        if (scaling := getattr(text_config, "logits_scaling", None)) is not None:  # HyperCLOVA X, Granite
            logits = logits * scaling if text_config.model_type == "hyperclovax" else logits / scaling
        if (cap := getattr(text_config, "final_logit_softcapping", None)) is not None:  # Gemma 2
            logits = cap * torch.tanh(logits / cap)
        return logits

    def _prepare_position_ids_for_generation(
        self, inputs_tensor: torch.Tensor, model_kwargs: dict[str, Any]
    ) -> torch.LongTensor:
        """Give `generate` its position ids, which it then counts on from: so decoding needs no state of ours.

        For "original" the frames are encoded here rather than a little later, since their positions depend on it.
        """
        if self.config.position_ids_mode == "packed":
            return super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)
        input_ids = inputs_tensor if inputs_tensor.ndim == 2 else model_kwargs.get("input_ids")
        if input_ids is not None and input_ids.shape[1] == inputs_tensor.shape[1]:
            mask = self.model.get_placeholder_mask(input_ids, None)
        else:
            mask = self.model.get_placeholder_mask(None, inputs_tensor)
        attention_mask, cache = model_kwargs.get("attention_mask"), model_kwargs.get(CACHE_NAME)
        if attention_mask is not None and attention_mask.shape[1] != mask.shape[1]:
            raise ValueError(
                f"attention_mask covers {attention_mask.shape[1]} tokens but {mask.shape[1]} are given: with "
                "position_ids_mode='original' pass the whole sequence along with the cache, or position_ids."
            )
        pixel_values = model_kwargs.pop("pixel_values", None)
        encoded = dict(model_kwargs.get("mm_encoder_outputs") or {})
        if pixel_values is not None:
            if encoded.get("image") is not None:
                raise ValueError("pass pixel_values or mm_encoder_outputs['image'], not both")
            encoded["image"] = self.get_image_features(pixel_values, return_dict=True)
            model_kwargs["mm_encoder_outputs"] = encoded
        past_length = 0 if cache is None else int(cache.get_seq_length())
        return self.model.get_position_ids(mask, attention_mask, encoded.get("image"), past_length)

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.LongTensor,
        next_sequence_length: int | None = None,
        is_first_iteration: bool = False,
        inputs_embeds: torch.FloatTensor | None = None,  # named, because `generate` looks for the name
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Select what a step of `generate` needs; an assistant model gets the frames with its first pass.

        The library calls none of an assistant's passes the first, and would leave the frames out. It hands on the main
        model's visual tokens: where they do not fit, the assistant guesses from the words alone.
        """
        cache = kwargs.get(CACHE_NAME)
        if not is_first_iteration and next_sequence_length != 1 and cache is not None and cache.get_seq_length() == 0:
            is_first_iteration = True
            features = (kwargs.get("mm_encoder_outputs") or {}).get("image")
            if features is not None and features.pooler_output[0].shape[-1] != self.config.text_config.hidden_size:
                kwargs.pop("mm_encoder_outputs")
                input_ids = input_ids.masked_fill(input_ids == self.config.image_token_id, 0)
        return super().prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=next_sequence_length,
            is_first_iteration=is_first_iteration,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        mm_encoder_outputs: dict[str, ElysiumImageFeatures] | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> ElysiumCausalLMOutputWithPast:
        """Run the model and its head; arguments as [`ElysiumModel.forward`], and the following.

        Args:
            input_ids: token ids of shape `(B, T)`; K placeholders per frame.
            pixel_values: frames of shape `(F, 3, H, W)` in the order of their placeholders, row by row.
            attention_mask: 1 at attended tokens, shape `(B, cached + T)`, or a prepared 4-D mask.
            position_ids: final position ids of shape `(B, T)`, taken as they are.
            past_key_values: the same as `cache`, by its name before transformers 5.24.
            inputs_embeds: embeddings of shape `(B, T, D)` in place of `input_ids`.
            mm_encoder_outputs: `{"image": get_image_features(...)}` in place of `pixel_values`.
            labels: token ids of shape `(B, T)` to predict, -100 where no loss is taken.
            use_cache: whether to return a cache.
            logits_to_keep: how many last positions (0: all), or which, get logits.
            cache: cache of the tokens before these.
            **kwargs: passed on to the language model and the loss function.

        Returns:
            Loss if labels are given, logits, cache.
        """
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            cache=cache,
            inputs_embeds=inputs_embeds,
            mm_encoder_outputs=mm_encoder_outputs,
            **{**kwargs, "use_cache": use_cache, "return_dict": True},
        )
        logits = self.compute_logits(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            vocab_size = self.config.text_config.vocab_size
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=vocab_size, **kwargs)
        return ElysiumCausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            **{CACHE_NAME: getattr(outputs, CACHE_NAME)},
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=outputs.image_hidden_states,
        )


# With these, `save_pretrained` copies the code files, so that the folder also loads with `trust_remote_code`.
ElysiumModel.register_for_auto_class("AutoModel")
ElysiumForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")

__all__ = ["ElysiumForConditionalGeneration", "ElysiumModel", "ElysiumPreTrainedModel"]
