"""Draw the records of every miniature.

python -m tests.dataset_scripts.adapters.contact_sheet docs/data_adapters.png
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from dataset_scripts.adapters import Reading, open_corpus
from dataset_scripts.adapters.contact_sheet import contact_sheet

from . import miniatures, my_miniatures

CORPORA = {
    "llava-558k": miniatures.llava,
    "grit-20m": miniatures.grit,
    "cogvlm-sft-311k": miniatures.cogvlm,
    "coco-vqa": miniatures.coco_vqa,
    "gqa": miniatures.gqa,
    "visual7w": miniatures.visual7w,
    "flickr30k": miniatures.flickr30k,
    "visual-genome": miniatures.visual_genome,
    "refcoco": miniatures.refcoco,
    "refcoco+": miniatures.refcoco_plus,
    "refcocog": miniatures.refcocog,
    "videochat": miniatures.videochat,
    "elysiumtrack-1m": miniatures.elysium_track,
}
MINE = {
    "MOT": my_miniatures.mot,
    "MOT beside a video": my_miniatures.mot_beside_video,
    "COCO": my_miniatures.coco_images,
    "CocoVID": my_miniatures.coco_video,
    "YouTube-VIS": my_miniatures.youtube_vis,
    "Label Studio": my_miniatures.label_studio,
    "Label Studio pictures": my_miniatures.label_studio_images,
    "CVAT": my_miniatures.cvat,
    "CVAT pictures": my_miniatures.cvat_images,
}


def main(target: str) -> None:
    """Write the sheet."""
    with tempfile.TemporaryDirectory() as folder:
        records = []
        for name, make in CORPORA.items():
            path, options = make(_made(Path(folder) / name))
            records += list(open_corpus(name, path, Reading(**options)))
        for name, make in MINE.items():
            path, options = make(_made(Path(folder) / name))
            for record in open_corpus("my-boxes", path, Reading(**options)):
                record.source = f"my boxes ({name})"
                records.append(record)
        part = f"{target}.part.png"
        contact_sheet(records, columns=6).quantize(64).save(part, optimize=True)
    os.replace(part, target)
    print(f"{len(records)} records, {os.path.getsize(target) // 1000} kB: {target}")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main(*sys.argv[1:])
