"""Start selector and projector from the tower's dense labels, as a pretrained CLIP would bring them along.

The selector learns to score patches that show an object higher. The projector gets weights in closed form: its first
layer reads the coordinates of the box as a row of hinges and the words of the object as classes, its second layer is
the least-squares map to the sum of the embeddings of the words and of the numbers. Found by gradient descent instead,
it would keep only what varies slowly with a coordinate, and numbers could not be told from their neighbors.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.nn import functional
from tqdm import tqdm

from dataset_scripts.synthetic import SyntheticConfig
from modeling_elysium.modeling_elysium import ElysiumModel
from processing_elysium import ElysiumProcessor
from processing_elysium.boxes import GRID

from .config import TowerConfig
from .patches import PATCH_LABELS, PatchSource
from .pretrain_tower import BOXES, normalize

__all__ = ["align"]

FITTED_BATCHES = 12
BACKGROUND_WEIGHT = 0.2
RIDGE = 1e-3


def align(
    model: ElysiumModel,
    processor: ElysiumProcessor,
    synthetic: SyntheticConfig,
    config: TowerConfig,
    workers: int = 1,
) -> dict[str, float]:
    """Set `model.selector` (if it scores) and `model.multi_modal_projector`; tower and embeddings stay as they are.

    Args:
        model: selector and projector are changed in place.
        processor: its tokenizer gives the words' embeddings, its image processor the normalization.
        synthetic: frames of the tower's size.
        config: `align_steps` steps for the selector.
        workers: processes that render.

    Returns:
        "recall", the share of object patches among the best-scored K, in the last steps, and "error", the projector's
        squared error on object patches as a share of the variance.
    """
    shape: Any = model.config.vision_config
    source = PatchSource(synthetic, shape.patch_size, config)
    count = config.align_steps * config.batch_size
    rows = torch.utils.data.Subset(source, range(max(0, len(source) - count), len(source)))
    loader = torch.utils.data.DataLoader(rows, config.batch_size, num_workers=workers)
    scored = hasattr(model.selector, "score")
    optimizer = torch.optim.AdamW(model.selector.parameters(), lr=2e-3) if scored else None
    seen: list[tuple[torch.Tensor, ...]] = []
    report = {"recall": 0.0}
    for step, (frames, labels, boxes) in enumerate(tqdm(loader, desc="align", mininterval=10)):
        with torch.no_grad():
            hidden = model.vision_tower(normalize(frames, processor.image_processor)).last_hidden_state
            hidden = hidden[:, -labels.shape[1] :]
        if len(seen) < FITTED_BATCHES:
            seen.append((hidden, labels, boxes))
        if optimizer is not None:
            optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / config.align_steps)
            now = _selector_step(model, hidden, labels[..., 0] > 0, optimizer)
            report["recall"] = 0.9 * report["recall"] + 0.1 * now
    hidden, labels, boxes = (torch.cat(parts).flatten(0, 1) for parts in zip(*seen, strict=True))
    target = _target(_word_embeddings(model, processor), labels, boxes)
    return report | {"error": _fit_projector(model.multi_modal_projector, hidden, labels, boxes, target)}


def _selector_step(
    model: ElysiumModel, hidden: torch.Tensor, shown: torch.Tensor, optimizer: torch.optim.Optimizer
) -> float:
    """Do one step of the scorer on `(F, N, C)` features; return the share of `shown` `(F, N)` among its best K."""
    selector: Any = model.selector
    scores = selector.score(hidden)
    best = scores.topk(model.config.num_image_tokens).indices
    functional.binary_cross_entropy_with_logits(scores, shown.float()).backward()
    optimizer.step()
    optimizer.zero_grad()
    return (shown.gather(1, best).sum() / shown.sum().clamp(max=best.numel())).item()


@torch.no_grad()
def _fit_projector(
    projector: Any, hidden: torch.Tensor, labels: torch.Tensor, boxes: torch.Tensor, target: torch.Tensor
) -> float:
    """Fit both layers on M patches; returns the squared error on object patches as a share of the variance.

    Args:
        projector: `linear_1`, `act`, `linear_2`, with biases.
        hidden: `(M, C)` features.
        labels: `(M, L)` classes, 0 for none.
        boxes: `(M, 4)`.
        target: `(M, D)`.
    """
    shown = labels[:, 0] > 0
    words = torch.cat(
        [functional.one_hot(labels[:, i], 1 + len(v))[:, 1:] for i, v in enumerate(PATCH_LABELS.values())], dim=1
    ).float()
    corner_weight, corner_bias = _least_squares(hidden[shown], boxes[shown])
    word, word_bias = _least_squares(hidden, words)
    first, second = projector.linear_1, projector.linear_2
    hinges = max(0, (first.out_features - words.shape[1]) // (BOXES + 1))
    steepness = float(max(hinges, 1))
    rows = 0
    for corner in range(BOXES):
        # Hinges open away from the middle, so that none grows larger than half the frame.
        for threshold in torch.linspace(0, 1, hinges):
            sign = 1.0 if threshold >= 0.5 else -1.0
            first.weight[rows] = sign * steepness * corner_weight[corner]
            first.bias[rows] = sign * steepness * (corner_bias[corner] - threshold)
            rows += 1
    free = first.out_features - rows
    first.weight[rows : rows + words.shape[1]] = 4 * word[:free]
    first.bias[rows : rows + words.shape[1]] = 4 * word_bias[:free]
    weight = torch.where(shown, 1.0, BACKGROUND_WEIGHT)
    solved, bias = _least_squares(projector.act(first(hidden)), target, weight)
    second.weight.copy_(solved)
    second.bias.copy_(bias)
    left = (projector(hidden[shown]) - target[shown]).square().mean()
    return (left / target[shown].var(dim=0).mean()).item()


def _least_squares(
    inputs: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Regress `(M, D)` targets on `(M, C)` inputs (ridge): weight `(D, C)` and bias `(D,)` of a linear layer."""
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1).double()
    weighted = inputs if weight is None else inputs * weight[:, None].double()
    gram = weighted.T @ inputs
    gram += RIDGE * gram.diagonal().mean() / len(gram) * torch.eye(len(gram), dtype=gram.dtype)
    solution = torch.linalg.solve(gram, weighted.T @ targets.double()).float()
    return solution[:-1].T.contiguous(), solution[-1]


def _word_embeddings(model: ElysiumModel, processor: ElysiumProcessor) -> dict[str, torch.Tensor]:
    """Embed each label's words, `(1 + classes, D)` with zeros for no object, and the numbers, `(GRID, D)`."""
    table = cast(torch.Tensor, model.get_input_embeddings().weight).detach()

    def embed(texts: list[str]) -> torch.Tensor:
        pieces = [processor.tokenizer.encode(text, add_special_tokens=False) for text in texts]
        return torch.stack([table[ids].mean(0) for ids in pieces])

    words = {
        name: torch.cat([torch.zeros(1, table.shape[1]), embed([f" {value}" for value in values])])
        for name, values in PATCH_LABELS.items()
    }
    return {**words, "number": embed([str(n) for n in range(GRID)])}


def _target(words: dict[str, torch.Tensor], labels: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Return what the projector should make of M patches, `(M, D)`; zero where there is no object."""
    total = sum(words[name][labels[..., i]] for i, name in enumerate(PATCH_LABELS))
    numbers = words["number"][(boxes * GRID).long().clamp(0, GRID - 1)]  # (M, 4, D)
    quarter = numbers.shape[-1] // BOXES
    rolled = sum(numbers[..., i, :].roll(i * quarter, dims=-1) for i in range(BOXES))
    return total + rolled * (labels[..., :1] > 0)
