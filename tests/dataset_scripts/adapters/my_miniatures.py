"""Exports of annotation tools in miniature: a video in which a red car passes a ball, annotated in every way."""

from __future__ import annotations

from pathlib import Path

from .miniatures import BALL, NUM_FRAMES, SIZE, car_at, frame_of_video, save, write_json, write_video, xywh


def mot(folder: Path):
    """The MOTChallenge's layout: frames and pixels from 1; the car leaves after frame 3, the ball is ignored once."""
    for frame in range(4):
        save(folder / "street" / "img1" / f"{frame + 1:06d}.jpg", frame_of_video(frame))
    (folder / "street" / "gt").mkdir()
    rows = []
    for frame in range(4):
        for identity, box in ((1, car_at(frame)), (2, BALL)):
            left, top, width, height = xywh(box)
            flag = 0 if (frame, identity) == (1, 2) else 1
            if (frame, identity) != (3, 1):
                rows.append(f"{frame + 1},{identity},{left + 1},{top + 1},{width},{height},{flag},1,1.0")
    (folder / "street" / "gt" / "gt.txt").write_text("\n".join(rows) + "\n")
    (folder / "street" / "seqinfo.ini").write_text("[Sequence]\nname=street\nimDir=img1\nframeRate=10\nseqLength=4\n")
    return folder, {}


def mot_beside_video(folder: Path):
    """CVAT's way: names of classes in labels.txt, pixels from 0; the video called as its file."""
    write_video(folder / "street.mp4")
    rows = [f"{f + 1},7,{','.join(str(v) for v in xywh(car_at(f)))},1,2,1.0" for f in (0, 2)]
    (folder / "street.txt").write_text("\n".join(rows))
    (folder / "labels.txt").write_text("ball\nred_car\n")
    return folder, {}


def coco_images(folder: Path):
    save(folder / "images" / "a.jpg")
    save(folder / "images" / "b.jpg")
    data = {
        "images": [{"id": i, "file_name": f"{'-ab'[i]}.jpg", "width": 160, "height": 120} for i in (1, 2)],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 5, "bbox": [16, 60, 64, 48], "area": 3072, "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 6, "bbox": xywh(BALL), "area": 1, "iscrowd": 0,
             "expression": "the round toy", "caption": "a blue ball"},
            {"id": 3, "image_id": 1, "category_id": 6, "bbox": [0, 0, 160, 10], "area": 1, "iscrowd": 1},
            {"id": 4, "image_id": 1, "category_id": 7, "bbox": [10, 10, 0, 5], "area": 0, "iscrowd": 0},
        ],
        "categories": [{"id": 5, "name": "car"}, {"id": 6, "name": "ball"}, {"id": 7, "name": "dot"}],
    }  # fmt: skip
    write_json(folder / "instances.json", data)
    return folder, {}


def coco_video(folder: Path):
    """CocoVID: videos, pictures with frame_id, boxes with instance_id."""
    names = [f"street/{i:04d}.jpg" for i in range(3)]
    for i, name in enumerate(names):
        save(folder / name, frame_of_video(i))
    images = [
        {"id": 10 + i, "video_id": 1, "frame_id": i, "file_name": name, "width": 160, "height": 120}
        for i, name in enumerate(names)
    ]
    boxes = [
        {"id": i, "image_id": 10 + i, "video_id": 1, "instance_id": 4, "category_id": 1, "bbox": xywh(car_at(i))}
        for i in (0, 2)
    ]
    data = {
        "categories": [{"id": 1, "name": "car"}],
        "videos": [{"id": 1, "name": "street", "width": 160, "height": 120}],
        "images": images,
        "annotations": boxes,
    }
    write_json(folder / "train.json", data)
    return folder, {}


def youtube_vis(folder: Path):
    names = [f"street/{i:05d}.jpg" for i in range(3)]
    for i, name in enumerate(names):
        save(folder / name, frame_of_video(i))
    data = {
        "videos": [{"id": 1, "width": 160, "height": 120, "length": 3, "file_names": names}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [
            {"id": 1, "video_id": 1, "category_id": 1, "bboxes": [xywh(car_at(0)), None, xywh(car_at(2))]}
        ],
    }
    write_json(folder / "instances.json", data)
    return folder, {}


def percent(box):
    left, top, width, height = xywh(box)
    return {
        "x": left / SIZE[0] * 100,
        "y": top / SIZE[1] * 100,
        "width": width / SIZE[0] * 100,
        "height": height / SIZE[1] * 100,
        "rotation": 0,
    }


def label_studio(folder: Path, frames_count=NUM_FRAMES):
    """Keyframes at the first, fifth and seventh frame, the car out of sight after that; a ball that stays."""
    write_video(folder / "street.mp4")

    def at(frame, box, enabled=True):
        number = round(frame * frames_count / NUM_FRAMES) + 1
        return {"frame": number, "time": frame / 10, "enabled": enabled, **percent(box)}

    sequence = [at(0, car_at(0)), at(4, car_at(4)), at(6, car_at(6), enabled=False)]
    value = {"framesCount": frames_count, "duration": 0.9}
    results = [
        {"id": "r1", "type": "videorectangle", "from_name": "box", "to_name": "video", "origin": "manual",
         "value": {**value, "sequence": sequence, "labels": ["Car"]}, "meta": {"text": ["a red car drives past"]}},
        {"id": "r2", "type": "videorectangle", "from_name": "box", "to_name": "video", "origin": "manual",
         "value": {**value, "sequence": [at(2, BALL)], "labels": ["Ball"]}},
    ]  # fmt: skip
    task = {
        "id": 3,
        "data": {"video": "/data/upload/1/0a1b2c3d-street.mp4"},
        "annotations": [{"id": 1, "was_cancelled": False, "result": results}],
    }
    write_json(folder / "project-1.json", [task])
    return folder, {}


def label_studio_images(folder: Path):
    save(folder / "a.jpg")
    result = {
        "id": "r1",
        "type": "rectanglelabels",
        "original_width": 160,
        "original_height": 120,
        "image_rotation": 0,
        "value": {**percent(BALL), "rectanglelabels": ["Ball"]},
    }
    task = {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [{"result": [result]}]}
    write_json(folder / "project-2.json", [task])
    return folder, {}


CVAT_BOX = (
    '<box frame="{}" keyframe="{}" outside="{}" occluded="0" xtl="{}" ytl="{}" xbr="{}" ybr="{}" z_order="0">{}</box>'
)


def cvat_box(frame, box, keyframe=1, outside=0, inside=""):
    return CVAT_BOX.format(frame, keyframe, outside, *box, inside)


def cvat(folder: Path):
    """Boxes at frames 0 and 4, not listed in between, out of sight from 6 on; a ball known up to frame 2 only."""
    write_video(folder / "street.mp4")
    words = '<attribute name="expression">the red car</attribute>'
    text = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>5</id><name>street</name><size>{NUM_FRAMES}</size><mode>interpolation</mode>
    <original_size><width>160</width><height>120</height></original_size><source>street.mp4</source></task></meta>
  <track id="0" label="car" source="manual">
    {cvat_box(0, car_at(0), inside=words)}
    {cvat_box(4, car_at(4))}
    {cvat_box(6, car_at(6), outside=1)}
  </track>
  <track id="1" label="ball" source="manual">
    {cvat_box(1, BALL)}
    {cvat_box(2, BALL, keyframe=0)}
  </track>
  <track id="2" label="line" source="manual"><polyline frame="0" points="1,2;3,4"/></track>
</annotations>
"""
    (folder / "annotations.xml").write_text(text)
    return folder, {}


def cvat_images(folder: Path):
    save(folder / "images" / "a.jpg")
    text = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
  <image id="0" name="a.jpg" width="160" height="120">
    <box label="car" source="manual" occluded="0" xtl="16" ytl="60" xbr="80" ybr="108" z_order="0">
      <attribute name="caption">a parked car</attribute><attribute name="color">red</attribute></box>
  </image>
  <image id="1" name="b.jpg" width="160" height="120"></image>
</annotations>
"""
    (folder / "annotations.xml").write_text(text)
    return folder, {}
