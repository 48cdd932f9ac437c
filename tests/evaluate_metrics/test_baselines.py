"""Baselines: each on a clip with a moving red box, networks tiny and random, made here."""

import json
import sys
import types

import cv2
import numpy as np
import pytest
import torch

from dataset_scripts.construction.backends.opencv import KINDS, OpenCVTrackers, whole_pixels
from evaluate_metrics.baselines.opencv import OpenCVBaseline
from evaluate_metrics.baselines.per_frame import DetectorPerFrame, RecPerFrame
from evaluate_metrics.baselines.sam2_video import Sam2VideoTracker, box_of_mask
from evaluate_metrics.baselines.track import KeepFirst, RoundingOracle
from evaluate_metrics.baselines.trackers import NAMES, make_tracker
from evaluate_metrics.readers.items import TrackSequence
from evaluate_metrics.runners.inspection import draw_sequence, option_rows, worst_sequences
from evaluate_metrics.runners.inspection import main as inspect
from evaluate_metrics.runners.scoring import TrackerScores
from evaluate_metrics.tracking_ope.ope import box_iou
from processing_elysium.frames import open_video

from . import miniatures
from .miniature_runs import run

SIZE = (96, 80)
TRUTH = np.array([[10.0 + 2 * t, 20.0 + t, 24.0, 20.0] for t in range(8)])


def frames():
    rng = np.random.default_rng(0)
    background = rng.integers(0, 60, (SIZE[1], SIZE[0], 3), np.uint8)
    texture = rng.integers(100, 255, (20, 24, 3), np.uint8)
    for x, y, w, h in TRUTH.astype(int):
        frame = background.copy()
        frame[y : y + h, x : x + w] = texture
        yield frame


@pytest.fixture
def sequence():
    return TrackSequence(
        name="s", frames=lambda: open_video(list(frames())), boxes_xywh_px=TRUTH.copy(), words="the red box"
    )


def test_floor_and_ceiling(sequence):
    assert (KeepFirst().track(sequence, "sot").boxes_xywh_px == TRUTH[0]).all()
    boxes = RoundingOracle().track(sequence, "sot").boxes_xywh_px
    assert np.abs(boxes - TRUTH).max() <= 1.01 and not np.allclose(boxes, TRUTH)  # within a cell of 0.96 x 0.8 px


def test_the_ceiling_says_nothing_where_there_is_no_truth(sequence):
    sequence.boxes_xywh_px[3] = np.nan
    boxes = RoundingOracle().track(sequence, "sot").boxes_xywh_px
    assert np.isnan(boxes[3]).all() and np.isfinite(boxes[[2, 4]]).all()


@pytest.mark.parametrize("kind", ["csrt", "kcf", "mil"])
def test_opencv_follows_and_repeats_itself(sequence, kind):
    tracker = OpenCVBaseline(kind)
    boxes = tracker.track(sequence, "sot").boxes_xywh_px
    assert (boxes[0] == TRUTH[0]).all()
    floor = box_iou(KeepFirst().track(sequence, "sot").boxes_xywh_px, TRUTH).mean()
    assert box_iou(boxes, TRUTH).mean() > floor + 0.05
    np.testing.assert_array_equal(tracker.track(sequence, "sot").boxes_xywh_px, boxes)


def test_a_lost_object_has_no_box(sequence, monkeypatch):
    class Loser:
        def init(self, frame, box):
            self.frame, self.box = frame, box

        def update(self, frame):
            return False, (0, 0, 0, 0)

    seen = []
    tracker = OpenCVBaseline("kcf")
    monkeypatch.setattr(tracker._trackers, "_made", lambda: seen.append(Loser()) or seen[-1])
    boxes = tracker.track(sequence, "sot").boxes_xywh_px
    assert np.isnan(boxes[1:]).all() and seen[0].box == (10, 20, 24, 20)
    first = next(frames())
    np.testing.assert_array_equal(seen[0].frame, first[:, :, ::-1])  # BGR


def test_opencv_of_other_versions(monkeypatch):
    for home, method in ((types.SimpleNamespace(), True), (types.SimpleNamespace(), False)):
        maker = lambda: "made"  # noqa: E731
        home.TrackerMOCK = type("TrackerMOCK", (), {"create": staticmethod(maker)} if method else {})
        home.TrackerMOCK_create = maker
        monkeypatch.setitem(sys.modules, "cv2", types.SimpleNamespace(__version__="4.5", legacy=home))
        monkeypatch.setitem(KINDS, "mock", ("TrackerMOCK", ()))
        assert OpenCVTrackers("mock", threads=None)._made() == "made"
    with pytest.raises(ValueError, match="OpenCV 4.5 has no TrackerCSRT; .pip install opencv-contrib"):
        OpenCVBaseline("csrt")


def test_onnx_files_are_handed_over(tmp_path, monkeypatch):
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).touch()
    given = []
    home = types.SimpleNamespace(
        __version__="5",
        TrackerNano=types.SimpleNamespace(create=given.append),
        TrackerNano_Params=types.SimpleNamespace,
    )
    monkeypatch.setitem(sys.modules, "cv2", home)
    OpenCVBaseline("nano", (str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")))._trackers._made()
    assert (given[0].backbone[-6:], given[0].neckhead[-6:]) == ("a.onnx", "b.onnx")
    for kind, names in (("Nano", ("backbone", "neckhead")), ("Vit", ("net",))):
        assert all(hasattr(getattr(cv2, f"Tracker{kind}_Params")(), name) for name in names)


@pytest.mark.parametrize(
    ("box", "whole"),
    [
        ((1.6, 2.4, 5.5, 0.2), (2, 2, 6, 2)),
        ((-3.0, 0.0, 9.0, 4.0), (0, 0, 9, 4)),
        ((95.4, 79.0, 9.0, 9.0), (94, 78, 2, 2)),
    ],
)
def test_first_boxes_are_whole_and_inside(box, whole):
    assert whole_pixels(np.array(box), (80, 96, 3)) == whole


class FramePipe:
    def __init__(self):
        self.batches = []

    def __call__(self, videos, expression, batch_size, looks):
        assert looks == 1
        self.batches.append((len(videos), expression))
        out = []
        for video in videos:
            assert video.num_frames == 1
            bright = np.argwhere(video.read([0])[0].min(axis=2) >= 100)
            (y1, x1), (y2, x2) = bright.min(0), bright.max(0) + 1
            score = 0.0 if len(out) == 2 else 0.8
            out.append(
                [{"frame": 0, "objects": [{"box": {"xmin": x1, "ymin": y1, "xmax": x2, "ymax": y2}, "score": score}]}]
            )
        return out


def test_each_frame_is_asked_alone(sequence):
    pipe = FramePipe()
    track = RecPerFrame(pipe, batch_size=5).track(sequence, "rsot")
    assert pipe.batches == [(5, "the red box"), (3, "the red box")]
    answered = [0, 1, 3, 4, 5, 6]  # the third of a batch has no readable answer: no box, rather than zeros
    np.testing.assert_allclose(track.boxes_xywh_px[answered], TRUTH[answered], atol=1)
    assert np.isnan(track.boxes_xywh_px[[2, 7]]).all() and track.scores[2] == 0


def tiny_owlvit(folder):
    from transformers import CLIPTokenizer, OwlViTConfig, OwlViTForObjectDetection, OwlViTProcessor
    from transformers.models.owlvit import image_processing_pil_owlvit as images

    letters = [chr(i) for i in range(97, 123)]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>", "!"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)
    side = {"height": 32, "width": 32}
    processor = OwlViTProcessor(images.OwlViTImageProcessorPil(size=side, crop_size=side), tokenizer)
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = OwlViTConfig(
        text_config={**tower, "vocab_size": len(vocabulary), "max_position_embeddings": 16},
        vision_config={**tower, "image_size": 32, "patch_size": 16},
        projection_dim=32,
    )
    OwlViTForObjectDetection(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_a_detector_of_transformers(sequence, tmp_path):
    tracker = make_tracker("detector_per_frame", str(tiny_owlvit(tmp_path)))
    track = tracker.track(sequence, "rsot")
    assert track.boxes_xywh_px.shape == (8, 4) and np.isfinite(track.boxes_xywh_px).all()
    assert ((track.scores > 0) & (track.scores < 1)).all()
    # Never sure enough: no boxes, and no zeros.
    strict = DetectorPerFrame(tracker._detector, threshold=1.1)
    assert np.isnan(strict.track(sequence, "rsot").boxes_xywh_px).all()


def test_the_most_certain_box_is_taken(sequence):
    def detector(asked, threshold):
        assert asked[0]["candidate_labels"] == ["the red box"]
        boxes = [{"xmin": 1, "ymin": 2, "xmax": 4, "ymax": 8}, {"xmin": 0, "ymin": 0, "xmax": 1, "ymax": 1}]
        return [[{"score": s, "box": b} for s, b in zip((0.6, 0.3), boxes, strict=True)] for _ in asked]

    track = DetectorPerFrame(detector).track(sequence, "rsot")
    assert (track.boxes_xywh_px == [1, 2, 3, 6]).all() and (track.scores == 0.6).all()


def tiny_sam2():
    from transformers import Sam2VideoConfig, Sam2VideoModel

    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [64, 64],
        "patch_kernel_size": [7, 7], "patch_stride": [4, 4], "patch_padding": [3, 3], "query_stride": [2, 2],
        "window_positional_embedding_background_size": [4, 4], "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 4, 4, 4], "global_attention_blocks": [3],
    }  # fmt: skip
    vision = {
        "model_type": "sam2_vision_model", "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 128,
    }  # fmt: skip
    torch.manual_seed(0)
    config = Sam2VideoConfig(
        vision_config=vision, image_size=64,
        prompt_encoder_config={"hidden_size": 128, "image_size": 64, "patch_size": 16},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 16, "iou_head_hidden_dim": 16, "num_attention_heads": 2},
        memory_attention_hidden_size=128, memory_attention_num_layers=1, memory_attention_feed_forward_hidden_size=16,
        memory_attention_rope_feat_sizes=[4, 4], memory_encoder_hidden_size=128, memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128, memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=16,
    )  # fmt: skip
    return Sam2VideoModel(config)


def test_sam2_video(sequence, tmp_path):
    tiny_sam2().save_pretrained(tmp_path)
    tracker = make_tracker("sam2_video", str(tmp_path))
    track = tracker.track(sequence, "sot")
    assert track.boxes_xywh_px.shape == (8, 4) and (track.boxes_xywh_px[0] == TRUTH[0]).all()
    found = np.isfinite(track.boxes_xywh_px).all(axis=1)
    assert (track.scores == found).all()
    inside = track.boxes_xywh_px[found]
    assert (inside[:, :2] >= 0).all() and (inside[:, :2] + inside[:, 2:] <= SIZE).all()
    with pytest.raises(ValueError, match="asked by a box"):
        tracker.track(sequence, "rsot")


def test_sam2_is_shown_the_frame_and_the_box_at_its_own_scale(sequence):
    from evaluate_metrics.baselines.sam2_video import _mask

    tracker = Sam2VideoTracker(tiny_sam2())
    session = tracker._session((80, 96), TRUTH[0])
    points = session.point_inputs_per_obj[0][0]
    x, y, w, h = TRUTH[0]
    wanted = [[x / 96 * 64, y / 80 * 64], [(x + w) / 96 * 64, (y + h) / 80 * 64]]
    np.testing.assert_allclose(points["point_coords"][0, 0].numpy(), wanted, rtol=1e-6)
    gray = np.full((80, 96, 3), 255, np.uint8)
    np.testing.assert_allclose(
        tracker._pixels(gray)[:, 0, 0], [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225], rtol=1e-5
    )
    logits = torch.full((1, 1, 16, 16), -5.0)
    logits[0, 0, 4:8, 8:12] = 5.0
    np.testing.assert_allclose(box_of_mask(_mask(logits, (80, 96))), [48, 20, 24, 20], atol=2)


def test_box_of_a_mask():
    mask = np.zeros((6, 8), bool)
    assert np.isnan(box_of_mask(mask)).all()
    mask[2, 3] = mask[4, 6] = True
    assert box_of_mask(mask).tolist() == [3, 2, 4, 3]


@pytest.mark.parametrize(("name", "ask"), [("rec_per_frame", "sot"), ("detector_per_frame", "sot"), ("csrt", "rsot")])
def test_who_is_asked_how(sequence, name, ask):
    made = {"rec_per_frame": RecPerFrame(None), "detector_per_frame": DetectorPerFrame(None)}
    with pytest.raises(ValueError, match=f"{name}' is asked by"):
        (made.get(name) or OpenCVBaseline(name)).track(sequence, ask)


def test_names_are_those_of_the_table():
    for name in NAMES[:5]:
        assert make_tracker(name).name == name
    with pytest.raises(ValueError, match="pass its folder with `--model`"):
        make_tracker("rec_per_frame")


# --------------------------------------------------------------------------------------------------------------
# failure analysis
# --------------------------------------------------------------------------------------------------------------
def test_the_worst_are_drawn(tmp_path, capsys):
    miniatures.otb100(tmp_path / "data")
    run("otb100", tmp_path / "data", tmp_path / "r", "--trackers", "keep_first", "rounding_oracle")
    inspect([str(tmp_path / "r"), "--task", "otb100-test-sot", "--tracker", "keep_first", "--worst", "2"])
    out = tmp_path / "r" / "inspect" / "otb100-test-sot"
    assert len(list(out.glob("*.png"))) == 2
    page = (out / "inspect.md").read_text()
    assert "## By group" in page and "size: below 24 px" in page and "Only one run" in page
    with pytest.raises(SystemExit, match="'nobody' has no results"):
        inspect([str(tmp_path / "r"), "--task", "otb100-test-sot", "--tracker", "nobody"])


def test_what_a_drawing_shows(sequence):
    sheet = np.asarray(draw_sequence(sequence, np.full((8, 4), np.nan)))
    scale = 240 / SIZE[0]
    assert sheet.shape == (2 * 200 + 90, 4 * 240, 3)
    left, top = (int(v * scale) for v in TRUTH[0, :2])
    assert tuple(sheet[top + 20, left]) == (0, 200, 0)  # truth, green; no prediction, no red
    assert not (sheet[:400] == (230, 0, 0)).all(axis=2).any()
    assert (np.asarray(draw_sequence(sequence, TRUTH))[:400] == (230, 0, 0)).all(axis=2).any()


def scores(tracker, values, options=None):
    items = {name: None if v is None else {"auc": v} for name, v in values.items()}
    run_of = {"tracker": tracker, **({} if options is None else {"model": "m", "options": options})}
    return TrackerScores(tracker, {"auc": 0.5, "precision": 0.6}, {}, items, len(items), [], [], {}, run=run_of)


def test_the_worst_come_first():
    assert worst_sequences(scores("t", {"a": 0.4, "b": 0.1, "c": None, "d": 0.1}), 2) == ["b", "d"]


def test_effect_of_options():
    rows = option_rows([scores("kcf", {}), scores("a", {}, {"clip_len": 4}), scores("b", {}, {"zoom": True})])
    assert rows[0] == ["run", "model", "clip_len", "zoom", "AUC", "precision"]
    assert rows[1:] == [["a", "m", "4", "default", "0.500", "0.600"], ["b", "m", "default", "True", "0.500", "0.600"]]
