"""What the small model is trained on: rows and licenses, windows around objects, pasted cut-outs, stored features."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.train.small.tiny_data import RESEARCH, write_material, write_sprites
from train.small import pool as pool_module
from train.small.material import Material, Shot, is_open
from train.small.paste import SIDE, Sprites, draw_pasted, put
from train.small.pool import Pool, encode_crops, quantized
from train.small.restyle import restyled
from train.small.scenes import draw_scene
from train.small.views import PASTED, _visible, draw_example


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def sprites(tmp_path_factory):
    return Sprites(write_sprites(tmp_path_factory.mktemp("sprites") / "s"))


@pytest.mark.parametrize(
    "license, expected",
    [
        ("dataset: CC BY 4.0", True),
        ("repo: MIT License ", True),
        ("repo: Apache License Version 2.0, January 2004", True),
        ("dataset: Public Domain", True),
        ('"Free to download, use and edit" (README; dataset paper: Data in Brief 2021, CC BY 4.0)', True),
        ("dataset: BY-NC-SA 4.0", False),
        ("MOTChallenge 2015 (CC BY-NC-SA 3.0)", False),
        ("CDnet 2014 (research use)", False),
        ("dataset: MIT; repo: GNU GENERAL PUBLIC LICENSE Version 3", False),
        ("none stated", False),
        ("repo: COPYRIGHT ", False),
    ],
)
def test_open_licenses(license, expected):
    assert is_open({"licence": license, "source": "someone/pictures@1a"}) is expected


def test_a_license_of_code_does_not_cover_pictures_of_others():
    assert not is_open({"licence": "repo: MIT License", "source": "choiwb/Tensorflow_object_detection_API@0a1b"})


def test_material_reads_rows_frames_and_boxes(folder):
    material = Material(folder, "train")
    assert (len(material.videos), len(material.images)) == (2, 3)
    assert material.video_weights.sum() == pytest.approx(1)
    shot = material.shot(material.videos[0], 2)
    assert shot.size == (120, 90)
    np.testing.assert_allclose(shot.box, [0.3, 0.3, 0.5, 0.6])
    assert material.shot(material.videos[1], 3).box is None
    x, y = int(0.4 * 120), int(0.45 * 90)
    assert tuple(shot.image[y, x]) == (240, 220, 60)
    only_open = Material(folder, "train", open_only=True)
    assert [row["id"] for row in only_open.videos] == ["train-clip0"]


def bright_box(crop):
    """Where the bright rectangle of the tiny material is in a window, in [0, 1]."""
    ys, xs = (crop[..., 0].astype(int) - crop[..., 2] > 110).nonzero()
    side = crop.shape[0]
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / side


def test_boxes_of_examples_are_where_the_object_is(folder, monkeypatch):
    monkeypatch.setattr("train.small.views.restyled", lambda image, rng, strength: image)
    material, seen = Material(folder, "train"), 0
    for seed in range(60):
        example = draw_example(material, np.random.default_rng(seed))
        assert len(example.crops) == 3 and example.boxes.shape == (3, 4)
        assert not np.isnan(example.boxes[0]).any()  # the first is known
        for crop, box in zip(example.crops, example.boxes, strict=True):
            assert crop.shape[0] == crop.shape[1]
            if np.isnan(box).any():
                continue
            assert (box[2:] > box[:2]).all() and (box >= 0).all() and (box <= 1).all()
            np.testing.assert_allclose(box, bright_box(crop), atol=1.6 / crop.shape[0])
            seen += 1
    assert seen > 100


def test_examples_are_functions_of_their_seed(folder, sprites):
    material = Material(folder, "train")
    for seed in range(6):
        one, two = (draw_example(material, np.random.default_rng(seed), sprites) for _ in range(2))
        assert one.row == two.row and all(map(np.array_equal, one.crops, two.crops))
    assert {draw_example(material, np.random.default_rng(s), sprites).row for s in range(30)} >= {PASTED}


@pytest.mark.parametrize(
    "box, expected",
    [
        ([0.2, 0.2, 0.4, 0.4], [0.2, 0.2, 0.4, 0.4]),
        ([-0.1, 0.2, 0.3, 0.4], [0.0, 0.2, 0.3, 0.4]),  # cut
        ([0.9, 0.2, 1.9, 0.4], [np.nan] * 4),  # a tenth of it is in sight
        ([1.2, 0.2, 1.4, 0.4], [np.nan] * 4),
    ],
)
def test_what_is_visible(box, expected):
    np.testing.assert_array_equal(_visible(np.array(box)), expected)


def test_pasted_boxes_are_those_of_the_opaque_pixels(folder, sprites, monkeypatch):
    monkeypatch.setattr("train.small.paste.restyled", lambda image, rng, strength: image)
    monkeypatch.setattr("train.small.paste._put_other", lambda *arguments: None)
    material = Material(folder, "train")
    crops, boxes, name = draw_pasted(material, sprites, np.random.default_rng(3), 3)
    assert len(crops) == 3 and boxes.shape == (3, 4) and name in ("disc", "bar")
    assert all(crop.shape == (SIDE, SIDE, 3) for crop in crops)
    np.testing.assert_allclose((boxes[0, :2] + boxes[0, 2:]) / 2, 0.5, atol=0.01)  # the template is centered
    canvas = Image.new("RGB", (SIDE, SIDE))
    box = put(canvas, sprites.picture(1), (100, 60))
    np.testing.assert_allclose(box * SIDE, [70, 40, 130, 80])
    ys, xs = np.asarray(canvas)[..., 0].nonzero()
    assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (70, 40, 130, 80)


def test_an_example_is_open_only_if_all_its_pictures_are(tmp_path):
    """Backgrounds and what is pasted beside count: with one source of research alone nothing with it is open."""
    folder, sprites = write_material(tmp_path), Sprites(write_sprites(tmp_path / "sprites"))
    free = Material(folder, "train", open_only=True)
    closed = Material(folder, "train")
    for row in closed.videos + closed.images:
        row["licence"] = RESEARCH
    mixed, seen = Material(folder, "train"), set()
    disc_only = Sprites(tmp_path / "sprites", open_only=True)
    for seed in range(40):
        for draw in (draw_example, draw_scene):
            assert draw(free, np.random.default_rng(seed), disc_only).open
            assert not draw(closed, np.random.default_rng(seed), sprites).open
            example = draw(mixed, np.random.default_rng(seed), sprites)
            seen.add(example.open)
            is_of_row = 0 <= getattr(example, "row", 0) < PASTED
            assert not example.open or not is_of_row or is_open(mixed.videos[example.row])
    assert seen == {True, False}


def test_restyled_keeps_shape_and_place():
    image = np.zeros((32, 32, 3), np.uint8)
    image[8:16, 8:16] = 255
    changed = [restyled(image, np.random.default_rng(seed), 0.3) for seed in range(20)]
    assert all(c.shape == image.shape and c.dtype == np.uint8 for c in changed)
    assert any(not np.array_equal(c, image) for c in changed)
    for c in changed:
        assert c[10:14, 10:14].mean() > c[20:, 20:].mean() + 60


class FlatTower:
    """Stands for the tower: a patch's feature is the mean of its pixels, in 384 ways."""

    dtype = torch.float32

    def __call__(self, pixels):
        mean = torch.nn.functional.avg_pool2d(pixels, 14).flatten(2).mT  # (F, 256, 3)
        tokens = mean.repeat(1, 1, 128) * torch.linspace(1, 2, 384)
        return type("Output", (), {"last_hidden_state": torch.cat([tokens[:, :1], tokens], 1)})


def test_features_are_layer_normalized_patches():
    crop = np.full((50, 50, 3), 90, np.uint8)
    features = encode_crops(FlatTower(), [crop, crop])
    assert features.shape == (2, 256, 384)
    torch.testing.assert_close(features.mean(-1), torch.zeros(2, 256), atol=1e-5, rtol=0)


def test_eight_bits_are_enough():
    features = torch.randn(5, 7, 384, generator=torch.Generator().manual_seed(0))
    q, scale = quantized(features)
    back = torch.from_numpy(q).float() * torch.from_numpy(scale).float().unsqueeze(-1)
    assert ((back - features).norm(dim=-1) / features.norm(dim=-1)).max() < 0.02


def test_pools_grow_and_say_what_is_open(folder, sprites, tmp_path, monkeypatch):
    monkeypatch.setattr(pool_module, "SHARD_EXAMPLES", 16)
    material = Material(folder, "train")
    pool_module._write_shard(tmp_path, 0, material, FlatTower(), 0, sprites)
    pool, free = Pool(tmp_path), Pool(tmp_path, open_only=True)
    assert len(pool) == 16 and 0 < len(free) < 16
    batch = pool.batch(np.array([3, 1]))
    assert batch["features"].shape == (2, 3, 256, 384) and batch["boxes"].shape == (2, 3, 4)
    pool_module._write_shard(tmp_path, 1, material, FlatTower(), 0, sprites)
    (tmp_path / "00002.tokens.npy").touch()  # a shard that a stopped producer left without its description
    pool.refresh()
    assert len(pool) == 32


def test_a_shot_knows_its_size():
    assert Shot(np.zeros((3, 5, 3), np.uint8), None).size == (5, 3)
