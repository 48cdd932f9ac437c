"""Boxes into SAM 2 and SAM 3: tiny models with random weights show that frames and boxes arrive as they should."""

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.torch import load_file, save_file

from tracking_elysium.masks import BoxSegmenter, add_masks, encode_rle, with_rle

HEIGHT, WIDTH = 60, 80
SIDE = 64  # of the tiny models
BOXES = [(10, 20, 40, 50), (30, 5, 75, 40), (0, 0, 80, 60)]
PROMPTS = {"hidden_size": 128, "image_size": SIDE, "patch_size": 16}
DECODER = {"hidden_size": 128, "mlp_dim": 16, "iou_head_hidden_dim": 16, "num_attention_heads": 2}
HIERA = {
    "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [SIDE, SIDE],
    "patch_kernel_size": [7, 7], "patch_stride": [4, 4], "patch_padding": [3, 3], "query_stride": [2, 2],
    "window_positional_embedding_background_size": [4, 4], "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 2, 2],
    "window_size_per_stage": [4, 4, 4, 4], "global_attention_blocks": [3],
}  # fmt: skip
SAM2_VISION = {
    "model_type": "sam2_vision_model", "backbone_config": HIERA, "backbone_channel_list": [64, 32, 16, 8],
    "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 128,
}  # fmt: skip
VIT = {
    "model_type": "sam3_vit_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": SIDE, "patch_size": 16, "pretrain_image_size": SIDE, "window_size": 2,
    "global_attn_indexes": [1],
}  # fmt: skip
SAM3_VISION = {
    "model_type": "sam3_vision_model", "backbone_config": VIT, "fpn_hidden_size": 128,
    "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
}  # fmt: skip
MEMORY = {
    "image_size": SIDE, "memory_attention_hidden_size": 128, "memory_attention_num_layers": 1,
    "memory_attention_feed_forward_hidden_size": 16, "memory_attention_rope_feat_sizes": [4, 4],
    "memory_encoder_hidden_size": 128, "memory_encoder_output_channels": 64, "mask_downsampler_embed_dim": 128,
    "memory_fuser_embed_dim": 128, "memory_fuser_intermediate_dim": 16,
}  # fmt: skip


SMALL = {"hidden_size": 128, "num_attention_heads": 2}
LAYER = {**SMALL, "intermediate_size": 16, "num_layers": 1}
SAM3_DETECTOR = {
    "vision_config": SAM3_VISION,
    "text_config": {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9,
        "bos_token_id": 1, "eos_token_id": 2,
    },
    "geometry_encoder_config": LAYER, "detr_encoder_config": LAYER, "detr_decoder_config": LAYER,
    "mask_decoder_config": SMALL,
}  # fmt: skip


def tiny(kind):
    import transformers

    vision = SAM3_VISION if kind.startswith("Sam3") else SAM2_VISION
    parts = {"vision_config": vision, "prompt_encoder_config": PROMPTS, "mask_decoder_config": DECODER}
    memory = MEMORY if "Video" in kind else {}
    if kind == "Sam3Video":
        parts, memory = {"detector_config": SAM3_DETECTOR, "tracker_config": {**parts, **memory}}, {}
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**copy.deepcopy({**parts, **memory}))
    return getattr(transformers, f"{kind}Model")(config).eval()


@pytest.fixture(scope="module")
def segmenter():
    return BoxSegmenter(tiny("Sam2"))


def frame(seed=0, height=HEIGHT, width=WIDTH):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def item(number, box, present=True):
    corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), map(float, box), strict=True))
    return {"id": number, "label": f"object {number}", "score": float(present), "present": present, "box": corners}


def result(index, *objects):
    return {"frame": index, "timestamp": index / 10, "objects": list(objects)}


@pytest.mark.parametrize("kind", ["Sam2", "Sam2Video", "Sam3Tracker"])
def test_a_folder_gives_masks_of_the_frame(tmp_path, kind):
    tiny(kind).save_pretrained(tmp_path)
    results = [result(3, item(0, BOXES[0]), item(7, BOXES[1])), result(4, item(7, BOXES[1]))]
    masked = list(add_masks([frame(0), frame(1)], results, model=str(tmp_path), device="cpu"))
    assert [[o["id"] for o in r["objects"]] for r in masked] == [[0, 7], [7]] and masked[0]["frame"] == 3
    for one in masked:
        for found in one["objects"]:
            assert found["mask"].shape == (HEIGHT, WIDTH) and found["mask"].dtype == bool
    assert "mask" not in results[0]["objects"][0]  # the caller's results stay as they were


def test_sam3_as_it_is_published_gives_all_its_weights(tmp_path):
    # One folder holds detector and tracker; the image encoder is the detector's.
    published = tiny("Sam3Video")
    published.save_pretrained(tmp_path)
    weights = published.state_dict()
    save_file(
        {name: value.clone() for name, value in weights.items()}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    loaded = BoxSegmenter.from_pretrained(str(tmp_path), "cpu")._model.state_dict()
    homes = {
        "vision_encoder.backbone.": "detector_model.vision_encoder.backbone.",
        "vision_encoder.neck.": "tracker_neck.",
    }
    for name, value in loaded.items():
        home = next((new + name.removeprefix(old) for old, new in homes.items() if name.startswith(old)), None)
        assert torch.equal(value, weights[home or f"tracker_model.{name}"]), name


def test_a_checkpoint_without_some_weights_is_refused(tmp_path):
    model = tiny("Sam2")
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["mask_decoder.conv_s0.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 weights of a Sam2Model, such as 'mask_decoder.conv_s0.weight'"):
        BoxSegmenter.from_pretrained(str(tmp_path), "cpu")


def test_the_model_is_shown_frame_and_boxes_at_its_own_scale():
    seen = {}
    model = tiny("Sam2")

    def forward(**inputs):
        seen.update(inputs)
        logits = torch.full((1, inputs["input_boxes"].shape[1], 1, 16, 16), -5.0)
        for place, (x1, y1, x2, y2) in enumerate((inputs["input_boxes"][0] / 4).round().int().tolist()):
            logits[0, place, 0, y1:y2, x1:x2] = 5.0
        return type("Output", (), {"pred_masks": logits})

    model.forward = forward
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    (masked,) = add_masks([white], [result(0, *map(item, range(3), BOXES))], model=BoxSegmenter(model))
    wanted = np.array(BOXES) * [SIDE / WIDTH, SIDE / HEIGHT, SIDE / WIDTH, SIDE / HEIGHT]
    np.testing.assert_allclose(seen["input_boxes"][0].numpy(), wanted, rtol=1e-6)
    assert seen["pixel_values"].shape == (1, 3, SIDE, SIDE) and seen["multimask_output"] is False
    np.testing.assert_allclose(seen["pixel_values"][0, :, 0, 0], [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225], 1e-5)
    for found, box in zip(masked["objects"], BOXES, strict=True):
        ys, xs = np.nonzero(found["mask"])
        assert np.abs(np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) - box).max() <= 4  # cells of 5 x 4


@pytest.mark.parametrize(("kind", "white"), [("Sam2", 0.515 / 0.229), ("Sam3Tracker", 1.0)])
@pytest.mark.parametrize("said", [None, {"image_mean": [0.0, 0.0, 0.0], "image_std": [0.5, 0.5, 0.5]}])
def test_colors_are_normalized_as_the_checkpoint_says(tmp_path, kind, white, said):
    tiny(kind).save_pretrained(tmp_path)
    if said:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    pixels = BoxSegmenter.from_pretrained(str(tmp_path), "cpu")._pixels(np.full((4, 4, 3), 255, np.uint8))
    assert float(pixels[0, 0, 0]) == pytest.approx(2.0 if said else white, rel=1e-5)


def test_objects_together_are_as_each_alone(segmenter):
    together = segmenter(frame(), np.array(BOXES))
    alone = [segmenter(frame(), np.array([box]))[0] for box in BOXES]
    assert together.shape == (3, HEIGHT, WIDTH) and together.any() and not together.all()
    assert np.mean(together != alone) < 1e-3
    assert (together[0] != together[1]).any()  # the box matters
    assert segmenter(frame(), np.zeros((0, 4))).shape == (0, HEIGHT, WIDTH)


def test_an_absent_object_has_no_mask_and_an_empty_frame_costs_no_pass(segmenter):
    calls = []

    class Counting(BoxSegmenter):
        def __call__(self, image, boxes):
            calls.append(len(boxes))
            return super().__call__(image, boxes)

    counting = Counting(segmenter._model)
    results = [
        result(0, item(0, BOXES[0], present=False), item(1, BOXES[1])),
        result(1),
        result(2, item(0, BOXES[0], present=False)),
    ]
    first, second, third = add_masks([frame()] * 3, results, model=counting)
    assert first["objects"][0]["mask"] is None and third["objects"][0]["mask"] is None
    assert (first["objects"][1]["mask"] == segmenter(frame(), np.array([BOXES[1]]))[0]).all()
    assert second["objects"] == [] and calls == [1]


def test_frames_are_read_one_by_one(segmenter):
    read = []

    def camera():
        for number in range(1000):
            read.append(number)
            yield frame()

    masked = add_masks(camera(), (result(n, item(0, BOXES[0])) for n in range(1000)), model=segmenter)
    next(masked)
    next(masked)
    assert read == [0, 1]


ONE = result(0, item(4, BOXES[0]))


@pytest.mark.parametrize(
    ("frames", "results", "message"),
    [
        ([frame()], [ONE, ONE], "`frames` ends after 1, `results` goes on"),
        ([frame(), frame()], [ONE], "`results` ends after 1, `frames` goes on"),
        ([frame(height=30)], [ONE], "of object 4 is not inside the frame of 80 x 30 pixels"),
        ([frame()], [result(0, item(4, (-9, 0, 5, 5)))], "not inside the frame of 80 x 60"),
        ([frame()], [result(0, item(4, (0, 0, float("nan"), 5)))], "not inside the frame"),
        ([frame(), frame(height=90)], [ONE, ONE], r"`frames`\[1\] has shape \(90, 80, 3\), the frames before it"),
        ([frame()[..., 0]], [ONE], r"`frames`\[0\] is uint8 of shape \(60, 80\); pass uint8 RGB"),
        ([frame() / 255], [ONE], r"`frames`\[0\] is float64 of shape"),
        (["a.png"], [ONE], r"`frames`\[0\] is str of shape"),
    ],
)
def test_what_does_not_fit_together_is_refused(segmenter, frames, results, message):
    with pytest.raises(ValueError, match=message):
        list(add_masks(frames, results, model=segmenter))


def test_a_box_may_reach_beyond_the_frame_by_rounding(segmenter):
    list(add_masks([frame()], [result(0, item(0, (-0.4, 0, 80.6, 60.4)))], model=segmenter))


def test_another_kind_of_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="is of type 'bert'; masks are made by one of sam2, "):
        add_masks([], [], model=str(tmp_path))


MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@given(mask=MASKS)
@settings(max_examples=150, deadline=None)
def test_run_lengths_are_those_of_coco(mask):
    coco = pytest.importorskip("pycocotools.mask")
    written = json.loads(json.dumps(encode_rle(mask)))
    assert written["size"] == list(mask.shape)
    assert written["counts"] == coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    assert (coco.decode(written) == mask).all()


@pytest.mark.parametrize(
    ("mask", "counts"),  # 32 zeros are two characters; a column is read before the next
    [([[0, 1], [0, 1]], "22"), ([[1, 0], [1, 0]], "022"), ([[0] * 32], "P1"), ([[1] * 32], "0P1")],
)
def test_run_lengths_by_hand(mask, counts):
    assert encode_rle(np.array(mask, bool))["counts"] == counts


def test_large_masks_as_coco_writes_them():
    coco = pytest.importorskip("pycocotools.mask")
    ys, xs = np.mgrid[:720, :1280]
    disk = (ys - 300) ** 2 + (xs - 700) ** 2 < 200**2
    assert encode_rle(disk)["counts"] == coco.encode(np.asfortranarray(disk, np.uint8))["counts"].decode()


def test_a_result_with_masks_becomes_json():
    mask = np.array([[True, False]])
    objects = [{**item(0, BOXES[0]), "mask": mask}, {**item(1, BOXES[1]), "mask": None}, item(2, BOXES[2])]
    told = json.loads(json.dumps(with_rle(result(0, *objects))))
    assert [o.get("mask", "no key") for o in told["objects"]] == [encode_rle(mask), None, "no key"]
    assert objects[0]["mask"] is mask


@pytest.mark.parametrize("bad", [np.zeros((2, 2)), np.zeros(4, bool)])
def test_only_masks_have_run_lengths(bad):
    with pytest.raises(ValueError, match="pass a bool array"):
        encode_rle(bad)
