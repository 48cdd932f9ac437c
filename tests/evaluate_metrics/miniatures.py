"""Benchmarks made by hand, a few frames each, in the layouts in which they are published."""

import json
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (64, 48)
BOXES = np.array([[4.0 + 2 * t, 6.0 + t, 20.0, 16.0] for t in range(6)])


def images(folder: Path, names) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        frame = np.full((SIZE[1], SIZE[0], 3), 40, np.uint8)
        x, y, w, h = BOXES[index % len(BOXES)].astype(int)
        frame[y : y + h, x : x + w] = (200, 60, 30)
        Image.fromarray(frame).save(folder / name)


def lines(path: Path, boxes, separator=",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(separator.join(f"{v:g}" for v in box) + "\n" for box in boxes), encoding="utf-8")


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def lasot(root: Path) -> None:
    for number in (1, 10):
        folder = root / "cat" / f"cat-{number}"
        images(folder / "img", [f"{i:08d}.jpg" for i in range(1, 7)])
        lines(folder / "groundtruth.txt", BOXES)
        text(folder / "full_occlusion.txt", "0,0,1,0,0,0")
        text(folder / "out_of_view.txt", "0,0,0,0,0,1\n")
        text(folder / "nlp.txt", "a red cat on a wall\n")
    text(root / "testing_set.txt", "cat-10\ncat-1\n")
    text(root / "att" / "cat-1.txt", "1,0,0,0,0,0,0,0,0,1,0,0,0,0")


def uav123(root: Path) -> None:
    images(root / "data_seq/UAV123/boat1", [f"{i:06d}.jpg" for i in range(1, 8)])  # one more than annotated
    with_gap = BOXES.copy()
    with_gap[2] = np.nan
    lines(root / "anno/UAV123/boat1.txt", with_gap)
    # Two sequences share the folder uav1; the second begins at frame 4.
    images(root / "data_seq/UAV123/uav1", [f"{i:06d}.jpg" for i in range(1, 7)])
    lines(root / "anno/UAV123/uav1_1.txt", BOXES[:4])
    lines(root / "anno/UAV123/uav1_2.txt", BOXES[3:])
    text(root / "anno/UAV123/att/boat1.txt", "1,0,0,0,0,0,0,0,0,0,0,1")


def otb100(root: Path) -> None:
    images(root / "Dog/img", [f"{i:04d}.jpg" for i in range(1, 7)])
    lines(root / "Dog/groundtruth_rect.txt", BOXES, "\t")
    images(root / "Jogging/img", [f"{i:04d}.jpg" for i in range(1, 7)])
    lines(root / "Jogging/groundtruth_rect.1.txt", BOXES, ",")
    lines(root / "Jogging/groundtruth_rect.2.txt", BOXES[::-1], " ")
    images(root / "David/img", [f"{i:04d}.jpg" for i in range(298, 306)])
    lines(root / "David/groundtruth_rect.txt", BOXES, "\t")  # frames 300 to 305
    images(root / "Tiger1/img", [f"{i:04d}.jpg" for i in range(1, 13)])
    lines(root / "Tiger1/groundtruth_rect.txt", [*BOXES, *BOXES])  # from the sixth frame on


def got10k(root: Path) -> None:
    for split, boxes in (("val", BOXES), ("test", BOXES[:1])):
        folder = root / split / "GOT-10k_Val_000001"
        images(folder, [f"{i:08d}.jpg" for i in range(1, 7)])
        lines(folder / "groundtruth.txt", boxes)
        if split == "val":
            text(folder / "absence.label", "0\n0\n0\n1\n0\n0\n")
            text(folder / "cover.label", "8\n8\n8\n0\n8\n8\n")
            text(folder / "meta_info.ini", "[METAINFO]\nurl: x%20y\nmajor_class: cat\nmotion_class: walking\n")


def trackingnet(root: Path) -> None:
    images(root / "TEST/frames/abc_0", [f"{i}.jpg" for i in range(11)])  # 10.jpg follows 9.jpg
    lines(root / "TEST/anno/abc_0.txt", BOXES[:1])
    images(root / "TRAIN_0/frames/def_0", [f"{i}.jpg" for i in range(6)])
    lines(root / "TRAIN_0/anno/def_0.txt", BOXES)


def elysiumtrack(root: Path) -> None:
    images(root / "frames/7", [f"{i}.jpg" for i in range(6)])
    corners = np.concatenate([BOXES[:, :2], BOXES[:, :2] + BOXES[:, 2:]], axis=1) / [*SIZE, *SIZE]
    row = {
        "source": "made by hand", "id": "a/7", "vid": 7, "metadata": {}, "object_class": "cat",
        "frames": [f"frames/7/{i}.jpg" for i in range(6)], "box": corners.tolist(),
        "object_description": "the red cat", "frame_size": list(SIZE),
    }  # fmt: skip
    text(root / "test.jsonl", json.dumps(row) + "\n")


def tnl2k(root: Path) -> None:
    images(root / "Cat_video_01/imgs", [f"{i:05d}.png" for i in range(1, 7)])
    boxes = BOXES.copy()
    boxes[4] = 0
    lines(root / "Cat_video_01/groundtruth.txt", boxes)
    text(root / "Cat_video_01/language.txt", "the red cat")
    text(root / "Cat_video_01/attributes.txt", ",".join("1" if i == 3 else "0" for i in range(17)))


def otb_lang(root: Path) -> None:
    otb100(root / "OTB_videos")
    text(root / "OTB_query_test/Dog.txt", "the dog\n")
    text(root / "OTB_query_test/Jogging-2.txt", "the woman behind\n")


def refcoco(root: Path) -> None:
    images(root / "images/train2014", ["COCO_train2014_000000000042.jpg"])
    said = [{"sent": "the red cat", "tokens": []}, {"sent": "left cat", "tokens": []}]
    refs = [
        {"ref_id": 3, "ann_id": 16, "image_id": 42, "split": split, "sentences": said, "category_id": 1,
         "file_name": "COCO_train2014_000000000042_16.jpg"}
        for split in ("val", "train")
    ]  # fmt: skip
    for dataset, partition in (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd")):
        (root / dataset).mkdir(parents=True)
        (root / dataset / f"refs({partition}).p").write_bytes(pickle.dumps(refs, protocol=2))
        annotations = [{"id": 16, "image_id": 42, "bbox": BOXES[0].tolist()}]
        text(root / dataset / "instances.json", json.dumps({"annotations": annotations}))


def video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [Image.new("RGB", SIZE, (40 * i, 0, 0)) for i in range(4)]
    frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames[1:], duration=100)
    path.with_suffix(".gif").rename(path)


def msvd_qa(root: Path) -> None:
    rows = [{"answer": "cat", "id": 5, "question": "what sits on a wall?", "video_id": 1201}]
    text(root / "test_qa.json", json.dumps(rows))
    text(root / "youtube_mapping.txt", "abc_0_5 vid1201\n")
    video(root / "YouTubeClips/abc_0_5.avi")


def msrvtt_qa(root: Path) -> None:
    rows = [{"answer": "cat", "category_id": 1, "id": 6, "question": "who sits?", "video_id": 7010}]
    text(root / "qa_test.json", json.dumps(rows))
    video(root / "videos/video7010.mp4")


def tgif_qa(root: Path) -> None:
    text(
        root / "Test_frameqa_question.csv",
        "gif_name\tquestion\tanswer\ttype\tvid_id\tkey\tdescription\n"
        'tumblr_x\twhat is "red"?\tcat\t0\tID1\t1\ta red cat\n',
    )
    video(root / "gifs/tumblr_x.gif")


def activitynet_qa(root: Path) -> None:
    text(root / "test_q.json", json.dumps([{"video_name": "zz", "question": "is it a cat", "question_id": "zz_1"}]))
    text(root / "test_a.json", json.dumps([{"answer": "yes", "type": 3, "question_id": "zz_1"}]))
    video(root / "videos/v_zz.mkv")


def realdata(root: Path) -> None:
    import tarfile

    images(root / "work/clip", [f"{i:05d}.jpg" for i in range(6)])
    images(root / "work", ["pic.jpg"])
    for kind in ("videos", "images"):
        (root / kind).mkdir()
    with tarfile.open(root / "videos/video_00.tar", "w") as tar:
        tar.add(root / "work/clip", "clip")
    with tarfile.open(root / "images/image_00.tar", "w") as tar:
        tar.add(root / "work/pic.jpg", "pic.jpg")
    corners = (np.concatenate([BOXES[:, :2], BOXES[:, :2] + BOXES[:, 2:]], axis=1) / [*SIZE, *SIZE]).tolist()
    size = {"width": SIZE[0], "height": SIZE[1], "split": "val"}
    clip = {
        **size, "kind": "video", "id": "clip#0", "clip": "clip", "shard": "videos/video_00.tar", "n_frames": 6,
        "frames": "clip/%05d.jpg", "boxes": [None, *corners[1:]], "absent": [1, 0, 0, 0, 0, 0], "category": "animal",
        "absent_meaning": "absent", "words": ["cat"], "description": None, "modality": "rgb",
    }  # fmt: skip
    picture = {
        **size, "kind": "image", "id": "pic", "shard": "images/image_00.tar", "file": "pic.jpg",
        "boxes": [{"name": n, "box": corners[0]} for n in ("cat", "dog", "dog")],
    }  # fmt: skip
    text(root / "records.jsonl", "".join(json.dumps(row) + "\n" for row in (clip, picture)))


MAKERS = {
    "lasot": lasot, "uav123": uav123, "otb100": otb100, "got10k": got10k, "trackingnet": trackingnet,
    "elysiumtrack": elysiumtrack, "tnl2k": tnl2k, "otb_lang": otb_lang, "refcoco": refcoco, "refcoco+": refcoco,
    "refcocog": refcoco, "msvd_qa": msvd_qa, "msrvtt_qa": msrvtt_qa, "tgif_qa": tgif_qa,
    "activitynet_qa": activitynet_qa, "realdata": realdata, "lasot_ext": lasot,
}  # fmt: skip
