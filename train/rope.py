"""More positions for the language model: its rotary embedding scaled, as transformers' `rope_parameters` have it.

A clip of 32 frames of 108 tokens and its answer are some 4300 tokens, and Vicuna knows 4096 positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modeling_elysium import ElysiumConfig

__all__ = ["ROPE_TYPES", "RopeConfig", "scale_positions", "suggested"]

ROPE_TYPES = ("linear", "yarn")
DEFAULT = "yarn"


@dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """Scaling of the rotary position embedding; the model's configuration keeps it for later stages and for use.

    Attributes:
        rope_type: "yarn" stretches slow rotations and leaves fast ones, which tell neighbors apart, as they are (YaRN,
            arXiv 2309.00071); "linear" divides every position by the factor (position interpolation, 2306.15595).
            Both are transformers' own.
        factor: times as many positions as the language model was pretrained with.
    """

    rope_type: str = DEFAULT
    factor: float

    def __post_init__(self) -> None:
        if self.rope_type not in ROPE_TYPES:
            raise ValueError(f"rope: rope_type is {self.rope_type!r}; give one of {ROPE_TYPES}.")
        if not self.factor > 1:
            raise ValueError(f"rope: factor is {self.factor}; give a number above 1, or drop `rope`.")


def scale_positions(config: ElysiumConfig, rope: RopeConfig) -> int:
    """Scale the positions of a configuration in place.

    A model that is scaled already is scaled from its pretrained positions, not once more.

    Args:
        config: of a model.
        rope: how.

    Returns:
        Positions that the language model knows now.

    Raises:
        ValueError: the language model has no rotary embedding, or one per kind of layer.
    """
    text: Any = config.text_config
    held = getattr(text, "rope_parameters", None)
    if not held or "rope_type" not in held:
        raise ValueError(
            f"rope: a language model of type {text.model_type!r} has no single rotary embedding to scale; drop "
            "`rope`, and show fewer frames or keep fewer tokens."
        )
    pretrained = held.get("original_max_position_embeddings")
    if pretrained is None:
        pretrained = round(text.max_position_embeddings / held.get("factor", 1.0))
    scaled = {"rope_type": rope.rope_type, "rope_theta": held["rope_theta"], "factor": rope.factor}
    if rope.rope_type == "yarn":
        scaled["original_max_position_embeddings"] = pretrained
    if "partial_rotary_factor" in held:
        scaled["partial_rotary_factor"] = held["partial_rotary_factor"]
    text.rope_parameters = scaled
    text.max_position_embeddings = int(pretrained * rope.factor)
    return text.max_position_embeddings


def suggested(longest: int, context: int) -> str:
    """What to write into a stage so that `longest` tokens fit a context of `context`, by the next quarter."""
    factor = -(-4 * longest // context) / 4
    return f"rope: {{rope_type: {DEFAULT}, factor: {factor:g}}}"
