"""Names of tensors in the checkpoints that can be converted, as one two-way table per layout.

A rule is a pair of prefixes (theirs, ours). Theirs is looked up in order and the first match counts, so a special
prefix stands before a general one. What a layout holds but no model of ours has is listed apart, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

Rules = tuple[tuple[str, str], ...]

_LM, _TOWER, _PROJECTOR = "model.language_model.", "model.vision_tower.", "model.multi_modal_projector."


@dataclass(frozen=True)
class Layout:
    """One way of naming the tensors of a checkpoint.

    Attributes:
        name: for messages.
        rules: (their prefix, our prefix), first match first.
        marks: prefixes that all must occur in a checkpoint of this layout.
        dropped: (pattern, reason) of their tensors that are dead or are not weights.
    """

    name: str
    rules: Rules
    marks: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...] = field(default=())

    def to_ours(self, key: str) -> str | None:
        """Our name of their tensor, None where no rule fits."""
        return next((ours + key[len(theirs) :] for theirs, ours in self.rules if key.startswith(theirs)), None)

    def to_theirs(self, key: str) -> str | None:
        """Their name of our tensor, None where no rule fits."""
        return next((theirs + key[len(ours) :] for theirs, ours in self.rules if key.startswith(ours)), None)

    def why_dropped(self, key: str) -> str | None:
        """Why their tensor has no place in our model; None where it has one."""
        return next((reason for pattern, reason in (*self.dropped, *_NO_WEIGHTS) if re.search(pattern, key)), None)


# Old versions of transformers saved these buffers along with the weights.
_NO_WEIGHTS = ((r"rotary_emb\.inv_freq$", "a constant"), (r"embeddings\.position_ids$", "a constant"))

RELEASED = Layout(
    name="the authors' release",
    rules=(
        ("llm.model.", _LM),
        ("llm.lm_head.", "lm_head."),
        ("visual_encoder.vision_model.", _TOWER),
        ("adapter.", "model.selector."),
        ("llm_proj.0.", _PROJECTOR + "linear_1."),
        ("llm_proj.2.", _PROJECTOR + "linear_2."),
    ),
    marks=("adapter.", "llm_proj."),
    dropped=((r"^adapter\.score_proj\.", "dead in the authors' code"),),
)
LLAVA_HF = Layout(
    name="LLaVA-1.5 (transformers 4)",
    rules=(
        ("language_model.model.", _LM),
        ("language_model.lm_head.", "lm_head."),
        ("vision_tower.vision_model.", _TOWER),
        ("multi_modal_projector.", _PROJECTOR),
    ),
    marks=("language_model.model.", "multi_modal_projector."),
)
LLAVA_HF_5 = Layout(
    name="LLaVA-1.5 (transformers 5)",
    rules=(
        (_LM, _LM),
        ("model.vision_tower.vision_model.", _TOWER),
        (_TOWER, _TOWER),
        (_PROJECTOR, _PROJECTOR),
        ("lm_head.", "lm_head."),
    ),
    marks=(_LM, _PROJECTOR),
)
LLAVA = Layout(
    name="LLaVA-1.5 (its own repository)",
    rules=(
        ("model.mm_projector.0.", _PROJECTOR + "linear_1."),
        ("model.mm_projector.2.", _PROJECTOR + "linear_2."),
        ("model.vision_tower.vision_tower.vision_model.", _TOWER),
        ("model.", _LM),
        ("lm_head.", "lm_head."),
    ),
    marks=("model.mm_projector.", "model.layers."),
)
OURS = Layout(
    name="Elysium in transformers",
    rules=((_TOWER + "vision_model.", _TOWER), ("model.", "model."), ("lm_head.", "lm_head.")),
    marks=("model.selector.", _LM),
)
# Parts of a model by themselves: what --llm and --vision name.
LANGUAGE_MODEL = Layout(name="a language model", rules=(("model.", _LM), ("lm_head.", "lm_head.")), marks=("model.",))
VISION_TOWER = Layout(name="a CLIP vision tower", rules=(("vision_model.", _TOWER),), marks=("vision_model.",))

_SOURCES = (RELEASED, OURS, LLAVA_HF, LLAVA_HF_5, LLAVA)


def detect_layout(keys: Iterable[str], where: str, layouts: tuple[Layout, ...] = _SOURCES) -> Layout:
    """Find out how a checkpoint names its tensors.

    Args:
        keys: names of all its tensors.
        where: the checkpoint, for the message.
        layouts: those that may be meant; our own layout is told from LLaVA's by the selector.

    Returns:
        The first layout all of whose marks occur.

    Raises:
        ValueError: no layout fits.
    """
    keys = list(keys)
    for layout in layouts:
        if all(any(key.startswith(mark) for key in keys) for mark in layout.marks):
            return layout
    seen = ", ".join(sorted(keys)[:4]) or "no tensor at all"
    known = "; ".join(f"{layout.name} has {' and '.join(f'{m}*' for m in layout.marks)}" for layout in layouts)
    raise ValueError(f"{where} has an unknown layout (it holds {seen}, ...); known are: {known}.")


def dead_in_tower(key: str, num_vision_layers: int) -> str | None:
    """Why our tower does not have one of our names: the part past the layer that is read is not built."""
    if not key.startswith(_TOWER):
        return None
    layer = re.match(r"encoder\.layers\.(\d+)\.", key[len(_TOWER) :])
    past = key.startswith(_TOWER + "post_layernorm.") or (layer and int(layer[1]) >= num_vision_layers)
    return "past the layer of the tower that is read" if past else None
