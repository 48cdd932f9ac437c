"""Masks by hand-off: the boxes of tracking go as box prompts into SAM 2 or SAM 3 of transformers.

    results = pipeline(video, box=box)
    for result in add_masks(frames, results, model="facebook/sam2.1-hiera-tiny"):
        result["objects"][0]["mask"]  # bool (H, W), None where the object is not to be seen

Results are the pipeline's dicts (boxes in pixels of the original frame); frames are uint8 RGB arrays (H, W, 3).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForMaskGeneration, PreTrainedModel
from transformers.image_processing_base import ImageProcessingMixin

DEFAULT_MODEL = "facebook/sam2.1-hiera-tiny"
# model_type -> mean and std of its training, for a folder that does not say. AutoModelForMaskGeneration makes the
# image model of each. SAM's own processors do the same work as `BoxSegmenter`, but need torchvision, which we do not.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
NORMALIZATION = {"sam2": _IMAGENET, "sam2_video": _IMAGENET, "sam3_tracker": _HALF, "sam3_video": _HALF}
BOX_TOLERANCE_PX = 1.0  # what a box may reach beyond the frame by rounding


class BoxSegmenter:
    """An image model of SAM 2 or SAM 3 that is asked by boxes, one frame and all its objects at a time."""

    def __init__(
        self,
        model: PreTrainedModel,
        mean: Sequence[float] = _IMAGENET[0],
        std: Sequence[float] = _IMAGENET[1],
    ) -> None:
        """Wrap a model.

        Args:
            model: a `Sam2Model` or `Sam3TrackerModel`.
            mean: of each of red, green and blue in its training, in [0, 1].
            std: standard deviations of the same.
        """
        self._model = model.eval()
        size = model.config.prompt_encoder_config.image_size
        # (height, width) that the model sees; the prompt encoder counts box corners in these pixels
        self._size: tuple[int, int] = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        self._mean, self._std = np.asarray(mean, np.float32), np.asarray(std, np.float32)

    @classmethod
    def from_pretrained(cls, model: str, device: str | torch.device | None = None) -> BoxSegmenter:
        """Load a checkpoint; never its code.

        Args:
            model: folder or Hub id.
            device: where it runs. None: the GPU if there is one.

        Raises:
            ValueError: a checkpoint of another kind, or one without some of the weights.
            OSError: nothing to load there.
        """
        config = AutoConfig.from_pretrained(model, trust_remote_code=False)
        if config.model_type not in NORMALIZATION:
            allowed = ", ".join(NORMALIZATION)
            raise ValueError(
                f"`model`={str(model)!r} is of type {config.model_type!r}; masks are made by one of {allowed}, such "
                f"as {DEFAULT_MODEL!r}."
            )
        mean, std = _normalization(model, config.model_type)
        loaded, told = AutoModelForMaskGeneration.from_pretrained(
            model, config=config, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
        if told["missing_keys"]:  # the library would go on with random numbers
            missing = sorted(told["missing_keys"])
            raise ValueError(
                f"`model`={str(model)!r} lacks {len(missing)} weights of a {type(loaded).__name__}, such as "
                f"{missing[0]!r}; take the checkpoint as it was published."
            )
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(loaded.to(device), mean, std)

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Segment what the boxes hold; the frame is encoded once.

        Args:
            frame: uint8 RGB array (H, W, 3).
            boxes: (n, 4) x1, y1, x2, y2 in pixels of the frame.

        Returns:
            Masks (n, H, W) of bool, one per box.
        """
        height, width = frame.shape[:2]
        if not len(boxes):
            return np.zeros((0, height, width), dtype=bool)
        scale = np.tile([self._size[1] / width, self._size[0] / height], 2)
        prompts = torch.from_numpy(np.asarray(boxes, np.float64) * scale).float()[None]
        output = self._model(
            pixel_values=self._pixels(frame)[None],
            input_boxes=prompts.to(self._model.device),
            multimask_output=False,  # a box leaves no doubt about what is meant, as a point does
        )
        grown = torch.nn.functional.interpolate(
            output.pred_masks[0].float(), size=(height, width), mode="bilinear", align_corners=False
        )
        return (grown[:, 0] > 0).cpu().numpy()

    def _pixels(self, frame: np.ndarray) -> torch.Tensor:
        """A frame (H, W, 3) as the model sees it, (3, h, w)."""
        resized = Image.fromarray(frame).resize(self._size[::-1], Image.Resampling.BILINEAR)
        pixels = (np.asarray(resized, np.float32) / 255 - self._mean) / self._std
        return torch.from_numpy(pixels.transpose(2, 0, 1)).to(self._model.device, self._model.dtype)


def add_masks(
    frames: Iterable[np.ndarray],
    results: Iterable[dict[str, Any]],
    model: str | BoxSegmenter = DEFAULT_MODEL,
    device: str | torch.device | None = None,
) -> Iterator[dict[str, Any]]:
    """Give every object of every result a mask, frame by frame: memory does not grow with the video.

    Args:
        frames: uint8 RGB arrays (H, W, 3), the frame of each result, in the order of the results.
        results: dicts of the pipeline, a list or what `stream=True` yields.
        model: SAM 2 or SAM 3 by folder or Hub id; a `BoxSegmenter` serves several videos without loading again.
        device: where a model given by name runs. None: the GPU if there is one.

    Returns:
        An iterator of copies of the results. Each object has `"mask"`: bool (H, W), or None where the object is not
        `present`.

    Raises:
        ValueError: a checkpoint of another kind; while iterating, not one frame per result, a frame that is none or
            of another size than the first, or a box beyond the frame.
        OSError: there is no such checkpoint.
    """
    segmenter = model if isinstance(model, BoxSegmenter) else BoxSegmenter.from_pretrained(model, device)
    return _masked(frames, results, segmenter)


def _masked(
    frames: Iterable[np.ndarray], results: Iterable[dict[str, Any]], segmenter: BoxSegmenter
) -> Iterator[dict[str, Any]]:
    size: tuple[int, ...] | None = None
    nothing = object()
    for number, (frame, result) in enumerate(zip_longest(frames, results, fillvalue=nothing)):
        if frame is nothing or result is nothing:
            ended, more = ("frames", "results") if frame is nothing else ("results", "frames")
            raise ValueError(f"`{ended}` ends after {number}, `{more}` goes on; pass one frame per result.")
        shape, dtype = np.shape(frame), getattr(frame, "dtype", type(frame).__name__)
        if len(shape) != 3 or shape[2] != 3 or dtype != np.uint8:
            raise ValueError(f"`frames`[{number}] is {dtype} of shape {shape}; pass uint8 RGB arrays (H, W, 3).")
        size = shape if size is None else size
        if shape != size:
            raise ValueError(
                f"`frames`[{number}] has shape {shape}, the frames before it {size}; pass the frames of one video, as "
                "it was tracked."
            )
        objects = result["objects"]
        shown = [place for place, item in enumerate(objects) if item.get("present", True)]
        boxes = [_box_in_frame(objects[place], shape, number) for place in shown]
        masks = dict(zip(shown, segmenter(frame, np.array(boxes)), strict=True)) if shown else {}
        yield {**result, "objects": [{**item, "mask": masks.get(place)} for place, item in enumerate(objects)]}


def _box_in_frame(item: dict[str, Any], shape: tuple[int, ...], number: int) -> tuple[float, ...]:
    """Take an object's box, held against the frame: results of another size of the video would give wrong masks."""
    box = tuple(float(item["box"][side]) for side in ("xmin", "ymin", "xmax", "ymax"))
    height, width = shape[:2]
    beyond = max(-box[0], -box[1], box[2] - width, box[3] - height) > BOX_TOLERANCE_PX
    if beyond or not all(math.isfinite(value) for value in box):
        raise ValueError(
            f"`results`[{number}]: the box {box} of object {item['id']} is not inside the frame of {width} x {height} "
            "pixels; pass the frames at the size at which they were tracked."
        )
    return box


def _normalization(model: str, model_type: str) -> tuple[Sequence[float], Sequence[float]]:
    """Read mean and std that the checkpoint gives; without them, take those of its family."""
    try:
        said, _ = ImageProcessingMixin.get_image_processor_dict(model)
    except OSError:  # a folder with the model alone
        said = {}
    mean, std = NORMALIZATION[model_type]
    return said.get("image_mean") or mean, said.get("image_std") or std


# --------------------------------------------------------------------------------------------------------------
# masks in JSON
# --------------------------------------------------------------------------------------------------------------
def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """Write a mask as COCO's compressed run lengths, which JSON holds and pycocotools and supervision read.

    Source: https://github.com/cocodataset/cocoapi, `common/maskApi.c`: runs of 0 and 1 in turn, column by column,
    beginning with 0; from the fourth on, each as its difference to the last but one; 5 bits per character.

    Args:
        mask: bool (H, W).

    Returns:
        `{"size": [H, W], "counts": str}`.

    Raises:
        ValueError: not a two-dimensional array of bool.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"`mask` is {mask.dtype} of shape {mask.shape}; pass a bool array (H, W).")
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    begins = [0, 0] if flat.size and flat[0] else [0]  # a mask that begins with 1 has an empty run of 0 first
    runs = np.diff([*begins, *ends, flat.size]).tolist()
    differences = [run - runs[place - 2] if place > 2 else run for place, run in enumerate(runs)]
    return {"size": list(mask.shape), "counts": "".join(map(_characters, differences))}


def _characters(value: int) -> str:
    """Write a signed number 5 bits at a time, lowest first; the sixth bit says that more follow."""
    written, more = "", True
    while more:
        bits = value & 0x1F
        value >>= 5
        more = value != (-1 if bits & 0x10 else 0)  # the fifth bit of the last character is the sign
        written += chr((bits | 0x20 if more else bits) + 48)
    return written


def with_rle(result: dict[str, Any]) -> dict[str, Any]:
    """Copy a result with its masks as run lengths, ready for JSON; an object without a mask keeps None."""
    objects = [
        {**item, "mask": None if item["mask"] is None else encode_rle(item["mask"])} if "mask" in item else item
        for item in result["objects"]
    ]
    return {**result, "objects": objects}


__all__ = ["DEFAULT_MODEL", "BoxSegmenter", "add_masks", "encode_rle", "with_rle"]
