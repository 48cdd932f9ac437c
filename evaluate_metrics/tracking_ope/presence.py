"""Does a tracker know when the object is gone? Presence, and the long-term scores; numpy only.

Legend of shapes: F frames of one video, V videos.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .box_rows import as_boxes, as_flags, box_iou, is_box


def presence_scores(
    predictions: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    absent: Sequence[np.ndarray] | None = None,
    said_absent: Sequence[np.ndarray] | None = None,
) -> dict[str, float | int | None]:
    """Compare where a tracker says that the object is there with where it is, over the frames of all videos.

    The first frame of a video counts like any other. The long-term scores are those of Lukezic et al., "Now you see
    me: evaluating performance in long-term visual tracking" (2018), at the one threshold that the tracker applied.

    Args:
        predictions: V arrays (F, 4), x, y, w, h in pixels; NaN rows where the tracker gave no box.
        references: V arrays (F, 4); NaN rows or sizes of zero where the object is absent.
        absent: V arrays (F,) of 0 and 1: 1 where the object is fully occluded or out of view. None: nowhere.
        said_absent: V arrays (F,) of 0 and 1: 1 where the tracker says that the object is absent. None: where it gave
            no box. A row that is no box is never a claim of presence.

    Returns:
        `presence_precision`, `presence_recall`, `presence_f` (positive: the object is there) and the same with
        `absence_` (positive: it is not), `long_term_precision` (mean IoU where a box is given), `long_term_recall`
        (mean IoU where the object is there), `long_term_f`; None where nothing can be divided by. Counts:
        `frames_absent`, `frames_said_absent`, `frames_confused` (truth and tracker disagree).

    Raises:
        ValueError: Counts or shapes that do not fit.
    """
    for name, given in (("absent", absent), ("said_absent", said_absent)):
        if given is not None and len(given) != len(references):
            raise ValueError(f"{name} holds {len(given)} videos, references {len(references)}: one array per video.")
    there, said, overlaps = [], [], []
    for index, (pred, ref) in enumerate(zip(predictions, references, strict=True)):
        pred, ref = as_boxes(pred, "prediction"), as_boxes(ref, "reference")
        there.append(is_box(ref) & ~as_flags(None if absent is None else absent[index], len(ref)))
        gone = as_flags(None if said_absent is None else said_absent[index], len(ref), "said_absent")
        said.append(is_box(pred) & ~gone)
        overlaps.append(np.where(there[-1] & said[-1], box_iou(pred, ref), 0.0))
    present, claimed, iou = (np.concatenate(parts) for parts in (there, said, overlaps))
    result: dict[str, float | int | None] = {}
    for name, truth, says in (("presence", present, claimed), ("absence", ~present, ~claimed)):
        right = float((truth & says).sum())
        result |= _precision_recall_f(name, right, int(says.sum()), int(truth.sum()))
    result |= _precision_recall_f("long_term", float(iou.sum()), int(claimed.sum()), int(present.sum()))
    return result | {
        "frames_absent": int((~present).sum()),
        "frames_said_absent": int((~claimed).sum()),
        "frames_confused": int((present != claimed).sum()),
    }


def _precision_recall_f(name: str, right: float, said: int, true: int) -> dict[str, float | int | None]:
    precision = right / said if said else None
    recall = right / true if true else None
    both = None if precision is None or recall is None else precision + recall
    f = None if both is None else 2 * precision * recall / both if both else 0.0
    return {f"{name}_precision": precision, f"{name}_recall": recall, f"{name}_f": f}
