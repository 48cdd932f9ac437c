"""Detectors and segmenters of transformers behind the pipeline's protocols, as tiny networks with random weights."""

import numpy as np
import pytest
import torch

from dataset_scripts.construction.backends.detectors import DetectorGrounder
from dataset_scripts.construction.backends.make import GROUNDERS, TRACKERS, make_grounder, make_tracker
from dataset_scripts.construction.backends.sam3 import Sam3Grounder
from dataset_scripts.construction.backends.segmenters import SegmenterTracker
from dataset_scripts.construction.config import BackendConfig

from . import tiny_networks as tiny
from .tiny_networks import PHRASES

BOXES = np.array([[0.1, 0.1, 0.5, 0.6], [0.4, 0.3, 0.9, 0.8]])


def frames(count):
    return list(np.random.default_rng(0).integers(0, 256, (count, 80, 96, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        ("owlv2", tiny.write_owlvit),
        ("owlv2", tiny.write_owlv2),
        ("grounding_dino", tiny.write_grounding_dino),
        ("mm_grounding_dino", tiny.write_mm_grounding_dino),
        ("sam3", tiny.write_sam3),
        ("sam3", tiny.write_sam3_video),
    ],
)
def test_grounders(tmp_path, kind, write):
    write(tmp_path)
    grounder = make_grounder(BackendConfig(kind, {"checkpoint": str(tmp_path), "floor": 0.0}), "cpu")
    together = grounder.ground(frames(3), PHRASES)
    assert len(together) == 3
    for found, frame, phrase in zip(together, frames(3), PHRASES, strict=True):
        assert found.boxes.shape == (len(found.scores), 4) and len(found.scores)
        assert ((found.boxes >= 0) & (found.boxes <= 1)).all() and (np.diff(found.scores) <= 0).all()
        assert ((found.scores >= 0) & (found.scores <= 1)).all()
        (alone,) = grounder.ground([frame], [phrase])  # what else is in the batch does not matter
        np.testing.assert_allclose(alone.scores[0], found.scores[0], atol=1e-4)
        np.testing.assert_allclose(alone.boxes[0], found.boxes[0], atol=1e-3)
    strict = make_grounder(BackendConfig(kind, {"checkpoint": str(tmp_path), "floor": 1.0}), "cpu")
    assert not len(strict.ground(frames(1), PHRASES[:1])[0].scores)


@pytest.mark.parametrize("write", [tiny.write_grounding_dino, tiny.write_sam3])
def test_words_and_pictures_matter(tmp_path, write):
    write(tmp_path)
    kind = "sam3" if write is tiny.write_sam3 else "grounding_dino"
    grounder = make_grounder(BackendConfig(kind, {"checkpoint": str(tmp_path), "floor": 0.0}), "cpu")
    one, other = frames(2)
    asked = [(one, "a red box"), (one, "the dog"), (other, "a red box")]
    scores = [found.scores[0] for found in grounder.ground([a for a, _ in asked], [b for _, b in asked])]
    assert len({round(float(score), 7) for score in scores}) == 3


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        ("sam2", tiny.write_sam2),
        ("edgetam", tiny.write_edgetam),
        ("sam3", tiny.write_sam3_tracker),
        ("sam3", tiny.write_sam3_video),
    ],
)
def test_segmenters(tmp_path, kind, write):
    write(tmp_path)
    tracker = make_tracker(BackendConfig(kind, {"checkpoint": str(tmp_path)}), "cpu")
    seen = list(tracker.follow(iter(frames(20)), BOXES))  # more than the frames that are remembered
    assert len(seen) == 20
    for now, scores in seen:
        assert now.shape == (2, 4) and scores.shape == (2,) and ((scores >= 0) & (scores <= 1)).all()
        known = now[~np.isnan(now).any(axis=1)]
        assert ((known >= 0) & (known <= 1)).all() and (known[:, 2:] > known[:, :2]).all()
    again = list(tracker.follow(iter(frames(3)), BOXES))
    np.testing.assert_allclose([scores for _, scores in again], [scores for _, scores in seen[:3]], rtol=1e-5)


def test_temperature(tmp_path):
    tiny.write_sam2(tmp_path)
    (_, scores), *_ = SegmenterTracker(str(tmp_path)).follow(iter(frames(1)), BOXES)
    ((_, cooler),) = SegmenterTracker(str(tmp_path), temperature=2.0).follow(iter(frames(1)), BOXES)
    logit = np.log(scores / (1 - scores))
    np.testing.assert_allclose(cooler, 1 / (1 + np.exp(-logit / 2)), rtol=1e-4)
    with pytest.raises(ValueError, match="temperature=0"):
        SegmenterTracker(str(tmp_path), temperature=0)


def test_what_a_segmenter_is_shown(tmp_path):
    """A box prompt is the box, in the model's pixels, whatever the frame's shape."""
    tiny.write_sam2(tmp_path)
    tracker, given = SegmenterTracker(str(tmp_path)), []
    tracker._model.register_forward_pre_hook(lambda _, args, kwargs: given.append(kwargs), with_kwargs=True)
    list(tracker.follow(iter(frames(2)), BOXES))
    session = given[0]["inference_session"]
    corners = [session.point_inputs_per_obj[n][0]["point_coords"].reshape(4).numpy() / 64 for n in range(2)]
    np.testing.assert_allclose(corners, BOXES, atol=1e-6)
    assert [g["frame"].shape for g in given] == [torch.Size([3, 64, 64])] * 2


@pytest.mark.parametrize("backend", [DetectorGrounder, Sam3Grounder])
def test_networks_of_another_kind_are_refused(tmp_path, backend):
    tiny.write_sam2(tmp_path)
    with pytest.raises(ValueError, match="is a 'sam2_video'"):
        backend(str(tmp_path))
    folder = tmp_path / "detector"
    folder.mkdir()
    tiny.write_owlv2(folder)
    with pytest.raises(ValueError, match="is a 'owlv2'"):
        SegmenterTracker(str(folder))


def test_the_tables_have_what_is_tried_here():
    assert {"owlv2", "grounding_dino", "mm_grounding_dino", "sam3", "elysium"} == set(GROUNDERS)
    assert {"sam2", "sam3", "edgetam"} <= set(TRACKERS)
