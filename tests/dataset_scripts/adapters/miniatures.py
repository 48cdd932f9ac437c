"""Every corpus in miniature: its published layout, written by hand, with pictures that show what the boxes say.

Each function fills a folder and returns what the adapter is given: the path and the options that differ.
`python -m tests.dataset_scripts.adapters.contact_sheet` draws them all.
"""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = (160, 120)
RED, BLUE, GREEN = (205, 60, 50), (50, 90, 200), (60, 150, 70)
# Pixels, left, top, right, bottom, of what every picture shows.
CAR, BALL, TREE = (16, 60, 80, 108), (96, 72, 128, 104), (120, 12, 152, 60)


def picture(*shapes):
    """A picture of rectangles (ellipses where the colour is blue)."""
    image = Image.new("RGB", SIZE, (190, 200, 190))
    draw = ImageDraw.Draw(image)
    for box, color in shapes or ((CAR, RED), (BALL, BLUE), (TREE, GREEN)):
        corners = (box[0], box[1], box[2] - 1, box[3] - 1)
        (draw.ellipse if color == BLUE else draw.rectangle)(corners, fill=color)
    return image


def save(path: Path, image=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or picture()).save(path)


def write_json(path: Path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def xywh(box):
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def unit(box):
    return [box[0] / SIZE[0], box[1] / SIZE[1], box[2] / SIZE[0], box[3] / SIZE[1]]


# --------------------------------------------------------------------------------------------------------------
# conversations
# --------------------------------------------------------------------------------------------------------------
def llava(folder: Path):
    save(folder / "images" / "00453" / "004539375.jpg")
    row = {
        "id": "004539375",
        "image": "00453/004539375.jpg",
        "conversations": [
            {"from": "human", "value": "Render a clear summary of the photo.\n<image>"},
            {"from": "gpt", "value": "a red car, a blue ball and a tree"},
        ],
    }
    write_json(folder / "blip_laion_cc_sbu_558k.json", [row, {**row, "id": "2", "image": "00453/gone.jpg"}])
    return folder, {}


def cogvlm(folder: Path):
    details, talk = "llava_details-minigpt4_3500_formate", "llava_instruction_multi_conversation_formate"
    save(folder / details / "images" / "00000001.jpg")
    save(folder / talk / "images" / "00000002.jpg")
    caption = {"captions": [{"role": "caption", "content": "A red car stands beside a blue ball."}]}
    write_json(folder / details / "labels_en" / "00000001.json", caption)
    caption = {"captions": [{"role": "caption", "content": "一辆红色的车。"}]}
    write_json(folder / details / "labels_zh" / "00000001.json", caption)
    words = ("What is red?", "The car.", "And blue?", "The ball.")
    said = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(words)]
    write_json(folder / talk / "labels_en" / "00000002.json", {"conversations": said})
    return folder, {}


def coco_vqa(folder: Path):
    save(folder / "train2014" / "COCO_train2014_000000458752.jpg")
    questions = [
        {"image_id": 458752, "question": "What colour is the ball?", "question_id": 458752000},
        {"image_id": 458752, "question": "How many trees are there?", "question_id": 458752001},
        {"image_id": 458752, "question": "Who left it?", "question_id": 458752002},
    ]
    write_json(
        folder / "v2_OpenEnded_mscoco_train2014_questions.json",
        {"info": {}, "data_type": "mscoco", "data_subtype": "train2014", "license": {}, "questions": questions},
    )
    answers = [
        {
            "question_id": 458752000 + i,
            "image_id": 458752,
            "question_type": "what",
            "answer_type": "other",
            "multiple_choice_answer": answer,
            "answers": [{"answer": answer, "answer_confidence": "yes", "answer_id": 1}],
        }
        for i, answer in enumerate(("blue", "1"))
    ]
    write_json(folder / "v2_mscoco_train2014_annotations.json", {"info": {}, "annotations": answers})
    return folder, {}


def gqa(folder: Path):
    save(folder / "images" / "2375429.jpg")
    question = {
        "semantic": [],
        "entailed": [],
        "equivalent": ["07333408"],
        "question": "What is left of the ball?",
        "imageId": "2375429",
        "isBalanced": True,
        "groups": {"global": None, "local": "13-ball"},
        "answer": "car",
        "fullAnswer": "The car is left of the ball.",
    }
    write_json(folder / "train_balanced_questions.json", {"07333408": question})
    objects = {
        str(i): {
            "name": name,
            **dict(zip("xywh", xywh(box), strict=True)),
            "relations": [{"object": "2", "name": "to the left of"}],
            "attributes": looks,
        }
        for i, (name, box, looks) in enumerate(
            (("car", CAR, ["red", "parked"]), ("ball", BALL, []), ("leaf", TREE, []), ("leaf", (124, 20, 132, 28), []))
        )
    }
    graph = {"width": SIZE[0], "height": SIZE[1], "location": "street", "objects": objects}
    write_json(folder / "train_sceneGraphs.json", {"2375429": graph})
    return folder, {}


def videochat(folder: Path):
    write_video(folder / "053551_053600" / "1024.mp4")
    row = {
        "video": "053551_053600/1024.mp4",
        "QA": [
            {"q": "Describe the video.", "a": "A red car drives to the right."},
            {"q": "Does it stop?", "a": "No, it drives on."},
        ],
    }
    write_json(folder / "videochat_instruct_11k.json", [row, {**row, "video": "gone/1.mp4"}])
    return folder, {}


# --------------------------------------------------------------------------------------------------------------
# pictures with boxes
# --------------------------------------------------------------------------------------------------------------
def tar_of(path: Path, files: dict[str, bytes], mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def jpeg(image=None):
    content = io.BytesIO()
    (image or picture()).save(content, "JPEG")
    return content.getvalue()


def grit(folder: Path):
    caption = "a red car near a blue ball and trees"
    data = {
        "key": "000000000",
        "clip_similarity_vitb32": 0.353271484375,
        "clip_similarity_vitl14": 0.2958984375,
        "id": 1795296605919,
        "url": "https://example.org/car.jpg",
        "caption": caption,
        "width": SIZE[0],
        "height": SIZE[1],
        "original_width": 640,
        "original_height": 480,
        "status": "success",
        "noun_chunks": [[0, 9, *unit(CAR), 0.79], [15, 26, *unit(BALL), 0.7], [31, 36, *unit(TREE), 0.7]],
        "ref_exps": [
            [0, 26, *unit(CAR), 0.79],
            [15, 26, *unit(BALL), 0.7],
            [31, 36, *unit(TREE), 0.7],
            [31, 36, 0.75, 0.1, 0.8, 0.2, 0.7],
        ],
    }
    files = {
        "000000000.jpg": jpeg(),
        "000000000.json": json.dumps(data).encode(),
        "000000000.txt": caption.encode(),
        "000000001.json": json.dumps({**data, "key": "000000001"}).encode(),  # its picture could not be downloaded
    }
    tar_of(folder / "00000.tar", files)
    return folder, {"extract_to": folder / "unpacked"}


def visual7w(folder: Path):
    save(folder / "images" / "v7w_1.jpg")
    telling = {
        "qa_id": 7,
        "image_id": 1,
        "question": "What is red?",
        "answer": "The car.",
        "type": "what",
        "multiple_choices": ["The ball.", "The tree.", "The sky."],
    }
    image = {"image_id": 1, "filename": "v7w_1.jpg", "split": "train"}
    other = {**image, "image_id": 2, "filename": "v7w_2.jpg", "split": "test", "qa_pairs": []}
    data = {"dataset": "visual7w-telling", "images": [{**image, "qa_pairs": [telling]}, other]}
    write_json(folder / "dataset_v7w_telling.json", data)
    boxes = [
        {"box_id": i, "name": name, **dict(zip(("x", "y", "width", "height"), xywh(box), strict=True))}
        for i, name, box in ((3, "car", CAR), (4, "ball", BALL))
    ]
    pairs = [
        {"qa_id": 8, "question": "Which object has wheels?", "answer": 3, "type": "which", "multiple_choices": [4]},
        {"qa_id": 9, "question": "Which thing is round?", "answer": 4, "type": "which", "multiple_choices": [3]},
        {"qa_id": 10, "question": "Which toy is blue?", "answer": 4, "type": "which", "multiple_choices": [3]},
    ]
    data = {"dataset": "visual7w-pointing", "boxes": boxes, "images": [{**image, "qa_pairs": pairs}]}
    write_json(folder / "dataset_v7w_pointing.json", data)
    return folder, {}


FLICKR_XML = """<annotation><filename>1000092795.jpg</filename>
<size><width>160</width><height>120</height><depth>3</depth></size>
{}
<object><name>4</name><scene>1</scene><nobndbox>1</nobndbox></object></annotation>"""
FLICKR_BOX = (
    "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def flickr30k(folder: Path):
    save(folder / "flickr30k-images" / "1000092795.jpg")
    lines = (
        "[/EN#1/vehicles A red car] stands beside [/EN#2/other a ball] in [/EN#4/scene the street] .",
        "[/EN#3/other Trees] and [/EN#1/vehicles the car] , which [/EN#0/notvisual it] owns .",
    )
    sentences, annotations = folder / "Sentences", folder / "Annotations"
    sentences.mkdir()
    annotations.mkdir()
    (sentences / "1000092795.txt").write_text("\n".join(lines) + "\n")
    boxes = ((1, CAR), (2, BALL), (3, TREE), (3, (4, 4, 20, 20)))
    # Pixels count from 1 and the last one belongs to the box.
    objects = [FLICKR_BOX.format(name, box[0] + 1, box[1] + 1, box[2], box[3]) for name, box in boxes]
    (annotations / "1000092795.xml").write_text(FLICKR_XML.format("\n".join(objects)))
    (folder / "train.txt").write_text("1000092795\n")
    return folder, {}


def visual_genome(folder: Path):
    save(folder / "VG_100K" / "1.jpg")
    write_json(folder / "image_data.json", [{"image_id": 1, "width": 160, "height": 120, "url": "u", "coco_id": None}])
    regions = [
        {
            "region_id": 1382 + i,
            "image_id": 1,
            "phrase": phrase,
            **dict(zip(("x", "y", "width", "height"), xywh(box), strict=True)),
        }
        for i, (phrase, box) in enumerate((("the car is red.", CAR), ("a blue ball", BALL), ("a vehicle", CAR)))
    ]
    write_json(folder / "region_descriptions.json", [{"id": 1, "regions": regions}])
    objects = [
        {
            "object_id": 1058498 + i,
            "names": [name],
            "synsets": [],
            "merged_object_ids": [],
            **dict(zip("xywh", xywh(box), strict=True)),
        }
        for i, (name, box) in enumerate((("car", CAR), ("tree", TREE), ("tree", (100, 12, 116, 60))))
    ]
    write_json(folder / "objects.json", [{"image_id": 1, "image_url": "u", "objects": objects}])
    return folder, {}


def refs(split_by: str):
    sentences = (("the red car", "car on the left"), ("blue ball",), ("the tree",))
    found = []
    for i, words in enumerate(sentences):
        entries = [
            {"tokens": text.split(), "raw": text, "sent_id": 10 * i + k, "sent": text} for k, text in enumerate(words)
        ]
        split = ("train", "train", {"unc": "testA", "umd": "test"}[split_by])[i]
        found.append(
            {
                "sent_ids": [entry["sent_id"] for entry in entries],
                "file_name": f"COCO_train2014_000000581857_{i}.jpg",
                "ann_id": 100 + i,
                "ref_id": i,
                "image_id": 581857,
                "split": split,
                "sentences": entries,
                "category_id": 3,
            }
        )
    return found


def instances():
    image = {"id": 581857, "width": 160, "height": 120, "file_name": "COCO_train2014_000000581857.jpg", "license": 1}
    annotations = [
        {
            "id": 100 + i,
            "image_id": 581857,
            "bbox": xywh(box),
            "area": 1.0,
            "iscrowd": 0,
            "category_id": 3,
            "segmentation": [[1, 2, 3, 4, 5, 6]],
        }
        for i, box in enumerate((CAR, BALL, TREE))
    ]
    categories = [{"id": 3, "name": "thing", "supercategory": "all"}]
    return {"info": {}, "images": [image], "annotations": annotations, "licenses": [], "categories": categories}


def refer(folder: Path, name: str, split_by: str):
    save(folder / "train2014" / "COCO_train2014_000000581857.jpg")
    write_json(folder / name / "instances.json", instances())
    # Protocol 0 is how Python 2 pickled the published files.
    (folder / name / f"refs({split_by}).p").write_bytes(pickle.dumps(refs(split_by), protocol=0))
    return folder, {}


def refcoco(folder: Path):
    return refer(folder, "refcoco", "unc")


def refcoco_plus(folder: Path):
    return refer(folder, "refcoco+", "unc")


def refcocog(folder: Path):
    return refer(folder, "refcocog", "umd")


def refcoco_mirror(folder: Path):
    """Rows as in the Hub's copies, as a parquet file."""
    import pyarrow
    import pyarrow.parquet

    save(folder / "train2014" / "COCO_train2014_000000581857.jpg")
    entries = instances()
    rows = []
    for ref, annotation in zip(refs("unc"), entries["annotations"], strict=True):
        extra = {"raw_anns": json.dumps(annotation), "raw_image_info": json.dumps(entries["images"][0])}
        rows.append({**ref, **extra, "bbox": [0.0, 0.0, 1.0, 1.0], "image_path": "coco/train2014/x.jpg"})
    (folder / "refcoco").mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "refcoco" / "train-0.parquet")
    return folder, {}


# --------------------------------------------------------------------------------------------------------------
# videos with boxes
# --------------------------------------------------------------------------------------------------------------
NUM_FRAMES = 9
STEP = 8  # pixels that the car of a video moves to the right from frame to frame


def car_at(frame: int):
    return (8 + STEP * frame, 60, 56 + STEP * frame, 100)


def frame_of_video(frame: int):
    return picture((car_at(frame), RED), (BALL, BLUE))


def write_video(path: Path, num_frames=NUM_FRAMES):
    from dataset_scripts.synthetic.write import write_video as write

    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, np.stack([np.asarray(frame_of_video(frame)) for frame in range(num_frames)]), 10.0)


def elysium_row():
    return {
        "source": "webvid",
        "id": 12,
        "vid": "1025983634",
        "metadata": None,
        "frames": [f"frames/1025983634/{i:06d}.jpg" for i in range(3)],
        "object_class": "a red car",
        "box": [unit(car_at(i)) for i in range(3)],
        "object_description": "a red car drives past a ball",
        "frame_size": list(SIZE),
    }


def elysium_track(folder: Path):
    frames = {name: jpeg(frame_of_video(i)) for i, name in enumerate(elysium_row()["frames"])}
    tar_of(folder / "packaged_results" / "group_aa.tar.gz", frames, "w:gz")
    short = {**elysium_row(), "id": 13, "box": elysium_row()["box"][:2]}
    text = "\n".join(json.dumps(row) for row in (elysium_row(), short))
    (folder / "ElysiumTrack-1M.json").write_text(text + "\n")
    return folder, {"extract_to": folder / "unpacked"}
