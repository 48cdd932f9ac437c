"""Configuration of Elysium: a vision tower, a token compressor, a projector and a decoder-only language model.

Legend of shapes used in this package: B batch, F frames, N patches per frame, K kept tokens per frame, C vision width,
D text width, T tokens.
"""

# No postponed annotations here: `@strict` checks fields by their types and passes over types that are strings.
import difflib
import os
from pathlib import Path
from typing import Any, Literal

from .versions import MINIMUM_TRANSFORMERS  # noqa: F401 - first, before names that older versions lack

# isort: split
from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

# Towers whose patch tokens come last in the sequence and whose depth is `num_hidden_layers`.
VISION_MODEL_TYPES = ("clip_vision_model", "siglip_vision_model", "dinov2", "dinov2_with_registers")

# Compressors whose tokens stand for one patch each; the others mix patches.
ONE_PATCH_PER_TOKEN = ("t_selector", "mlp")


def concat_windows(grid: tuple[int, int]) -> dict[int, tuple[int, int]]:
    """List the windows into which neighboring patches of a grid can be joined.

    Args:
        grid: Patches per column and per row of a frame, `(rows, columns)`.

    Returns:
        For every reachable token count K the window `(height, width)` in patches that gives it; of several windows of
        one area, the one closest to a square.
    """
    rows, columns = grid
    windows = [(h, w) for h in range(1, rows + 1) if rows % h == 0 for w in range(1, columns + 1) if columns % w == 0]
    # The squarest window of an area is written last and therefore stays.
    windows.sort(key=lambda window: -abs(window[0] - window[1]))
    return {(rows // h) * (columns // w): (h, w) for h, w in windows}


@strict
class ElysiumConfig(PreTrainedConfig):
    r"""Configuration of [`ElysiumModel`] and [`ElysiumForConditionalGeneration`].

    The defaults are the paper's model (section 3.2; released configuration): CLIP ViT-L/14 at 336 pixels, Vicuna-7B
    v1.5 shapes, 108 of 576 tokens per frame. Construction needs no download.

    Args:
        vision_config (`dict` or `PreTrainedConfig`, *optional*): CLIP, SigLIP or DINOv2 type vision configuration. A
            dict is taken as it is, it is not merged with the paper's values.
        text_config (`dict` or `PreTrainedConfig`, *optional*): any decoder-only text configuration.
        image_token_id (`int`, defaults to 32000): id of the placeholder that stands for one visual token.
        vision_feature_layer (`int`, defaults to -2): the hidden state of the tower that is read, counted as in
            `hidden_states` (0 is the embedding, -1 the last layer). No layer past it is built.
        compressor_type (`str`, defaults to `"t_selector"`): `"t_selector"` (equation 2), or an ablation of Table 7:
            `"concat"`, `"cross_attention"`, `"mlp"` (no compression).
        num_image_tokens (`int`, defaults to 108): K, tokens per frame that reach the language model.
        selector_scorer (`str`, defaults to `"positional"`): `"positional"` (the authors' parametrization, tied to one
            N) or `"mlp"` (the paper's text, the same for any N).
        selector_gradient (`bool`, defaults to `True`): whether the scorer is trained through the kept tokens. `False`
            is the published behavior, in which the scorer keeps its initial values.
        selector_hidden_size (`int`, *optional*): width of the `"mlp"` scorer, half the tower's width if not given.
        projector_hidden_act (`str`, defaults to `"gelu"`): activation between the two projector layers.
        projector_bias (`bool`, defaults to `True`): whether the projector layers have a bias.
        position_ids_mode (`str`, defaults to `"packed"`): `"packed"` counts the kept tokens on, `"original"` gives
            each its raster position inside a block of N positions per frame.
        vision_feature_norm (`bool`, defaults to `False`): whether the patch tokens that are read are layer-normalized
            (without weights). DINOv2's intermediate layers have a few channels far larger than all others.
        reference_similarity (`bool`, defaults to `False`): whether selector and projector also see how alike each
            patch is to the object whose box is known in another frame (`reference_boxes`, `reference_frames`).
        expression_similarity (`bool`, defaults to `False`): whether selector and projector see, where only words are
            known (`expression_ids`), how well each patch fits them, in place of the similarity to an object. Needs
            `reference_similarity`.
        patch_position_embedding (`bool`, defaults to `False`): whether a learned embedding of its patch's place is
            added to every visual token. Needs tokens that stand for one patch each.
        tie_word_embeddings (`bool`, *optional*): whether the output head shares the input embeddings; the text
            configuration's value if not given.

    Raises:
        ValueError: for a vision type, layer, token budget or key that cannot be honored, naming what can.
    """

    model_type = "elysium"
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="clip_vision_model",
            init_kwargs={
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "image_size": 336,
                "patch_size": 14,
                "projection_dim": 768,
            },
        ),
        "text_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="llama",
            init_kwargs={
                "vocab_size": 32064,
                "hidden_size": 4096,
                "intermediate_size": 11008,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "num_key_value_heads": 32,
                "max_position_embeddings": 4096,
                "rms_norm_eps": 1e-5,
                "pad_token_id": 0,
                "bos_token_id": 1,
                "eos_token_id": 2,
            },
        ),
    }

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    image_token_id: int = 32000
    vision_feature_layer: int = -2
    compressor_type: Literal["t_selector", "concat", "cross_attention", "mlp"] = "t_selector"
    num_image_tokens: int = 108
    selector_scorer: Literal["positional", "mlp"] = "positional"
    selector_gradient: bool = True
    selector_hidden_size: int | None = None
    projector_hidden_act: str = "gelu"
    projector_bias: bool = True
    position_ids_mode: Literal["packed", "original"] = "packed"
    vision_feature_norm: bool = False
    reference_similarity: bool = False
    expression_similarity: bool = False
    patch_position_embedding: bool = False
    tie_word_embeddings: bool | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Build the sub-configurations and checks what depends on several fields."""
        fields = list(type(self).__dataclass_fields__)
        for key in kwargs:
            # Foreign keys are legal in a Hugging Face configuration; one that nearly is ours is a slip of the pen.
            close = difflib.get_close_matches(key, fields, n=1, cutoff=0.82)
            if close and not hasattr(type(self), key) and key not in self.attribute_map:
                raise ValueError(f"unknown configuration key {key!r}: did you mean {close[0]!r}?")
        if not __name__.startswith("transformers_modules"):
            # With the package installed the registered pipeline is used; the entry would ask for remote code.
            kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)
        if self.tie_word_embeddings is None:
            self.tie_word_embeddings = bool(getattr(self.text_config, "tie_word_embeddings", False))
        self.check()

    def check(self) -> None:
        """Check the vision type, the layer that is read and the token budget.

        Raises:
            ValueError: naming the field, the value seen and the values allowed.
        """
        if self.vision_config.model_type not in VISION_MODEL_TYPES:
            raise ValueError(
                f"vision_config has model_type {self.vision_config.model_type!r}; supported are "
                f"{', '.join(VISION_MODEL_TYPES)}. Pass the vision part of a CLIP, SigLIP or DINOv2 configuration."
            )
        if self.text_config.is_encoder_decoder:
            raise ValueError(
                f"text_config has model_type {self.text_config.model_type!r}, an encoder-decoder; pass the "
                "configuration of a decoder-only language model."
            )
        depth = self.vision_config.num_hidden_layers
        if not (1 <= self.vision_feature_layer <= depth or -depth <= self.vision_feature_layer <= -1):
            raise ValueError(
                f"vision_feature_layer is {self.vision_feature_layer}, but the tower has {depth} layers: choose from "
                f"1 to {depth}, or from {-depth} to -1."
            )
        if self.expression_similarity and not self.reference_similarity:
            raise ValueError(
                "expression_similarity=True needs reference_similarity=True, whose inputs it fills where only words "
                "are known; set both, or neither."
            )
        self._check_token_budget()

    def _check_token_budget(self) -> None:
        kept, patches = self.num_image_tokens, self.num_patches
        if self.compressor_type == "concat":
            allowed = sorted(concat_windows(self.patch_grid))
            reachable, rule = kept in allowed, f"one of {allowed}"
        elif self.compressor_type == "mlp":
            reachable, rule = kept == patches, f"{patches}, since nothing is compressed"
        else:
            reachable, rule = 1 <= kept <= patches, f"from 1 to {patches}"
        if not reachable:
            raise ValueError(
                f"num_image_tokens is {kept}, but compressor_type={self.compressor_type!r} on a grid of "
                f"{self.patch_grid[0]} x {self.patch_grid[1]} patches allows {rule}."
            )
        if self.compressor_type not in ONE_PATCH_PER_TOKEN:
            self._check_one_patch_each()

    def _check_one_patch_each(self) -> None:
        """Refuse options that need to know which patch a token stands for."""
        wants = {
            "position_ids_mode='original'": (self.position_ids_mode == "original", "use 'packed'"),
            "reference_similarity=True": (self.reference_similarity, "leave it False"),
            "patch_position_embedding=True": (self.patch_position_embedding, "leave it False"),
        }
        for option, (is_set, instead) in wants.items():
            if is_set:
                raise ValueError(
                    f"{option} needs tokens that stand for one patch each, which compressor_type="
                    f"{self.compressor_type!r} does not give: {instead}, or take 't_selector' or 'mlp'."
                )

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Patches of a frame as `(rows, columns)`."""
        size, patch = self.vision_config.image_size, self.vision_config.patch_size
        size = (size, size) if isinstance(size, int) else tuple(size)
        patch = (patch, patch) if isinstance(patch, int) else tuple(patch)
        return size[0] // patch[0], size[1] // patch[1]

    @property
    def num_patches(self) -> int:
        """N, patch tokens that the tower gives per frame, class and register tokens not counted."""
        rows, columns = self.patch_grid
        return rows * columns

    @property
    def num_vision_layers(self) -> int:
        """Layers of the tower that are built and run: those up to `vision_feature_layer`."""
        layer = self.vision_feature_layer
        return layer if layer >= 0 else self.vision_config.num_hidden_layers + 1 + layer

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Save the configuration with everything that loading it with `trust_remote_code` needs.

        Args:
            save_directory: folder to write to.
            push_to_hub: whether to push the folder to the Hub after saving it.
            **kwargs: passed on to `PreTrainedConfig.save_pretrained`.
        """
        generation_class = "modeling_elysium.ElysiumForConditionalGeneration"
        self.auto_map = {
            "AutoConfig": "configuration_elysium.ElysiumConfig",
            "AutoModel": "modeling_elysium.ElysiumModel",
            "AutoModelForImageTextToText": generation_class,
            "AutoModelForMultimodalLM": generation_class,
        }
        replace_code_links(save_directory)
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)


def replace_code_links(folder: str | os.PathLike[str]) -> None:
    """Make the code files of a folder that are links real ones: saving through a link would change its source.

    A clone's own checkpoint folder holds such links.

    Args:
        folder: where something is about to be saved; it need not be there.
    """
    for path in Path(folder).glob("*.py"):
        if path.is_symlink():
            code = path.read_bytes() if path.exists() else None  # None: the link leads nowhere
            path.unlink()
            if code is not None:
                path.write_bytes(code)


def let_others_read(folder: str | os.PathLike[str]) -> None:
    """Give weight files the permissions of any new file: safetensors 0.8 writes them for their owner alone.

    Args:
        folder: where `*.safetensors` were saved; files with other permissions than those stay as they are.
    """
    mask = os.umask(0)
    os.umask(mask)
    for path in Path(folder).glob("*.safetensors"):
        if path.stat().st_mode & 0o777 == 0o600:
            path.chmod(0o666 & ~mask)


ElysiumConfig.register_for_auto_class()


__all__ = ["ElysiumConfig"]
