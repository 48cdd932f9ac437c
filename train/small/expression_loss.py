"""What fits the words, told directly: the patches of the object that an expression names.

From the answers alone a decoder of 5 million parameters does not learn to read the words, not even on pictures of
several things (docs/LOG.md). Which patches show what is named is known in the training pictures, and the similarity of
words and patches (`modeling_elysium.expression_similarity`) learns it within some hundred steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from modeling_elysium.image_features import patches_in_box

from .pool import Shards
from .wording import expression_for, made_up, may_be

__all__ = ["Named", "draw_named", "expression_loss"]

MOST_PER_PICTURE = 3
MADE_UP_SHARE = 0.15  # of pictures of one thing: words that mean nothing, so that unknown ones lead to what stands out
DROPOUT = 0.1  # of patch features: the pictures are few


@dataclass
class Named:
    """Q expressions about F pictures.

    Attributes:
        patches: (F, N, C).
        expression_ids: (Q, L), -1 as padding.
        picture_of: (Q,) the picture that each is about.
        boxes: (Q, 4) what each names there, in [0, 1].
        elsewhere: (Q, F), True where another picture may show what the expression names.
    """

    patches: torch.Tensor
    expression_ids: torch.Tensor
    picture_of: torch.Tensor
    boxes: torch.Tensor
    elsewhere: torch.Tensor

    def to(self, device: str | torch.device) -> Named:
        """Copy to a device."""
        return Named(**{name: value.to(device) for name, value in vars(self).items()})


def draw_named(scenes: Shards, count: int, rng: np.random.Generator, encode_expressions: Any) -> Named:
    """Draw pictures and expressions for up to three of each one's objects.

    Args:
        scenes: features of pictures with named objects.
        count: F.
        rng: decides everything.
        encode_expressions: the processor's.
    """
    patches, rows = scenes.read(rng.choice(len(scenes), count))
    texts, names, picture_of, boxes = [], [], [], []
    for number, row in enumerate(rows):
        objects = row["objects"]
        for target in rng.permutation(len(objects))[:MOST_PER_PICTURE].tolist():
            text = expression_for(objects, target, rng)
            name = objects[target]["name"]
            if len(objects) == 1 and rng.random() < MADE_UP_SHARE:
                text, name = made_up(rng), None
            if text is not None:
                texts.append(text), names.append(name)
                picture_of.append(number), boxes.append(objects[target]["box"])
    elsewhere = [
        [n != own and (name is None or _shows(row, name)) for n, row in enumerate(rows)]
        for name, own in zip(names, picture_of, strict=True)
    ]
    return Named(
        patches=patches,
        expression_ids=encode_expressions(texts),
        picture_of=torch.tensor(picture_of, dtype=torch.long),
        boxes=torch.tensor(np.array(boxes), dtype=torch.float32).view(-1, 4),
        elsewhere=torch.tensor(elsewhere, dtype=torch.bool).view(-1, count),
    )


def _shows(row: dict[str, Any], name: str) -> bool:
    return any(may_be(name, item["name"]) for item in row["objects"])


def expression_loss(model: Any, named: Named) -> torch.Tensor:
    """Return how surprising the patches of what is named are, among those of the picture and of all pictures.

    Both are a cross-entropy between a softmax and the even distribution over the patches in the box. The first tells
    the object from the rest of its picture, which shows where it is; the second, in which pictures that may show the
    same kind do not count, tells one kind from the others, and makes scores of different pictures comparable.

    Args:
        model: `ElysiumForConditionalGeneration` with `expression_similarity`.
        named: the expressions.

    Returns:
        The sum of the two means, a scalar.
    """
    similarity = model.model.expression_similarity
    patches = torch.nn.functional.dropout(named.patches, DROPOUT, training=model.training)
    scores = similarity.all_pairs(patches, named.expression_ids)  # (Q, F, N)
    wanted = patches_in_box(named.boxes, model.config.patch_grid)
    rows = torch.arange(len(scores), device=scores.device)
    among_all = scores.masked_fill(named.elsewhere.unsqueeze(-1), -torch.inf).flatten(1).log_softmax(-1)
    own = among_all.view_as(scores)[rows, named.picture_of]
    in_picture = scores[rows, named.picture_of].log_softmax(-1)
    return sum(-((logs * wanted).sum(-1) / wanted.sum(-1)).mean() for logs in (in_picture, own))
