"""A miniature of the real material: a few drawn pictures and clips in tar shards, with records and licenses."""

import io
import json
import tarfile

import numpy as np
from PIL import Image

CC, RESEARCH = "dataset: CC BY 4.0", "CDnet 2014 (research use)"


def picture(rng, box, size=(90, 120)):
    """Noise with a bright rectangle at `box` in [0, 1]."""
    image = rng.integers(0, 60, (*size, 3), dtype=np.uint8)
    x1, y1, x2, y2 = (np.array(box) * [size[1], size[0], size[1], size[0]]).round().astype(int)
    image[y1:y2, x1:x2] = (240, 220, 60)
    return image


def write_material(folder):
    """Two clips of 6 frames (one with an absent frame) and three images, in split train and val each."""
    rng = np.random.default_rng(0)
    rows = []
    for split in ("train", "val"):
        shard = f"{split}.tar"
        with tarfile.open(folder / shard, "w", format=tarfile.USTAR_FORMAT) as tar:

            def add(name, image, tar=tar):
                buffer = io.BytesIO()
                Image.fromarray(image).save(buffer, "PNG")
                info = tarfile.TarInfo(name)
                info.size = buffer.tell()
                buffer.seek(0)
                tar.addfile(info, buffer)

            for clip in range(2):
                boxes = [[0.2 + 0.05 * n, 0.3, 0.4 + 0.05 * n, 0.6] for n in range(6)]
                for number, box in enumerate(boxes):
                    add(f"clip{clip}/{number:05d}.png", picture(rng, box))
                if clip == 1:
                    boxes[3] = None
                rows.append(
                    {
                        "kind": "video", "id": f"{split}-clip{clip}", "clip": f"clip{clip}", "sequence": f"s{clip}",
                        "shard": shard, "frames": f"clip{clip}/%05d.png", "n_frames": 6, "width": 120, "height": 90,
                        "boxes": boxes, "absent": [int(b is None) for b in boxes], "absent_meaning": "absent",
                        "category": "bright thing", "words": ["thing"], "description": None,
                        "licence": RESEARCH if clip else CC, "split": split, "source": "drawn",
                    }
                )  # fmt: skip
            for number in range(3):
                box = [0.1 + 0.1 * number, 0.2, 0.4 + 0.1 * number, 0.5]
                add(f"{number}.png", picture(rng, box))
                rows.append(
                    {
                        "kind": "image", "id": f"{split}-{number}", "shard": shard, "file": f"{number}.png",
                        "width": 120, "height": 90, "boxes": [{"name": "lamp", "box": box}], "licence": CC,
                        "split": split, "source": "drawn",
                    }
                )  # fmt: skip
    (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def write_sprites(folder):
    """Two cut-outs: a disc and a bar."""
    folder.mkdir()
    rows = []
    for number, name in enumerate(("disc", "bar")):
        rgba = np.zeros((40, 60, 4), np.uint8)
        rgba[..., :3] = (200, 40 + 100 * number, 90)
        y, x = np.mgrid[:40, :60]
        rgba[..., 3] = 255 * ((x - 30) ** 2 / 900 + (y - 20) ** 2 / 400 < 1) if number == 0 else 255
        Image.fromarray(rgba, "RGBA").save(folder / f"{number}.png")
        rows.append({"file": f"{number}.png", "name": name, "source": "drawn", "open": number == 0})
    (folder / "sprites.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder
