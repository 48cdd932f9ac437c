"""Every corpus' miniature gives exactly the records it should, and what is broken in it is counted by reason."""

import json

import pytest

from dataset_scripts.adapters import ADAPTERS, Reading, load_adapter, open_corpus
from dataset_scripts.records import parse_record
from dataset_scripts.sources import open_frames

from . import miniatures as m
from .contact_sheet import CORPORA

CAR, BALL = [0.1, 0.5, 0.5, 0.9], [0.6, 0.6, 0.8, 0.86667]


def talk(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def thing(box, words, caption=None, **attributes):
    """An object of a picture as JSON."""
    item = {"expression": words, "caption": caption or words, "attributes": attributes, "box": [box], "absent": [0]}
    return {key: value for key, value in item.items() if value != {}}


def pointed(box, words, category):
    item = thing(box, words, category=category)
    del item["caption"]
    return item


CAPTION = ("A red car stands beside a ball in the street .", "Trees and the car , which it owns .")
DETAILS, TALK = "llava_details-minigpt4_3500_formate", "llava_instruction_multi_conversation_formate"
REFERRED = [
    ("581857-0", [thing(CAR, "the red car", category="thing"), thing(BALL, "blue ball", category="thing")]),
    ("581857-1", [thing(CAR, "car on the left", category="thing")]),
]
COCO_PICTURE = "train2014/COCO_train2014_000000581857.jpg"
REFER = [
    {"id": name, "video": COCO_PICTURE, "objects": objects, "metadata": {"split": "train"}}
    for name, objects in REFERRED
]

# name -> records without source, license, size and frames; reasons with how often
EXPECTED = {
    "llava-558k": (
        [
            {
                "id": "004539375",
                "video": "images/00453/004539375.jpg",
                "messages": talk("Render a clear summary of the photo.", "a red car, a blue ball and a tree"),
            }
        ],
        {"picture not found": 1},
    ),
    "cogvlm-sft-311k": (
        [
            {
                "id": f"{DETAILS}/labels_en/00000001",
                "video": f"{DETAILS}/images/00000001.jpg",
                "messages": talk("Describe this picture in detail.", "A red car stands beside a blue ball."),
                "metadata": {"language": "en"},
            },
            {
                "id": f"{DETAILS}/labels_zh/00000001",
                "video": f"{DETAILS}/images/00000001.jpg",
                "messages": talk("请详细描述这张图片。", "一辆红色的车。"),
                "metadata": {"language": "zh"},
            },
            {
                "id": f"{TALK}/labels_en/00000002",
                "video": f"{TALK}/images/00000002.jpg",
                "messages": talk("What is red?", "The car.", "And blue?", "The ball."),
                "metadata": {"language": "en"},
            },
        ],
        {},
    ),
    "coco-vqa": (
        [
            {
                "id": "train2014-458752",
                "video": "train2014/COCO_train2014_000000458752.jpg",
                "messages": talk("What colour is the ball?", "blue", "How many trees are there?", "1"),
            }
        ],
        {"question without an answer": 1},
    ),
    "gqa": (
        [
            {
                "id": "2375429-questions-0",
                "video": "images/2375429.jpg",
                "messages": talk("What is left of the ball?", "car"),
            },
            {
                "id": "2375429-objects",
                "video": "images/2375429.jpg",
                "objects": [thing(CAR, "car", attributes="red, parked"), thing(BALL, "ball")],
            },
        ],
        {"words fit several boxes of the picture": 2},
    ),
    "visual7w": (
        [
            {"id": "telling-1", "video": "images/v7w_1.jpg", "messages": talk("What is red?", "The car.")},
            {
                "id": "pointing-1-0",
                "video": "images/v7w_1.jpg",
                "objects": [
                    pointed(CAR, "which object has wheels", "car"),
                    pointed(BALL, "which thing is round", "ball"),
                ],
            },
            {
                "id": "pointing-1-1",
                "video": "images/v7w_1.jpg",
                "objects": [pointed(BALL, "which toy is blue", "ball")],
            },
        ],
        {},
    ),
    "flickr30k": (
        [
            {
                "id": "1000092795-0-0",
                "video": "flickr30k-images/1000092795.jpg",
                "objects": [thing(CAR, "A red car", category="vehicles"), thing(BALL, "a ball", category="other")],
                "metadata": {"caption": CAPTION[0]},
            },
            {
                "id": "1000092795-1-0",
                "video": "flickr30k-images/1000092795.jpg",
                "objects": [thing(CAR, "the car", category="vehicles")],
                "metadata": {"caption": CAPTION[1]},
            },
        ],
        {"phrase without a box": 1, "phrase with several boxes": 1},
    ),
    "visual-genome": (
        [
            {
                "id": "1-regions-0",
                "video": "VG_100K/1.jpg",
                "objects": [thing(CAR, "the car is red"), thing(BALL, "a blue ball")],
            },
            {"id": "1-regions-1", "video": "VG_100K/1.jpg", "objects": [thing(CAR, "a vehicle")]},
            {"id": "1-objects-0", "video": "VG_100K/1.jpg", "objects": [thing(CAR, "car")]},
        ],
        {"words fit several boxes of the picture": 2},
    ),
    "refcoco": (REFER, {}),
    "refcoco+": (REFER, {}),
    "refcocog": (REFER, {}),
    "grit-20m": (
        [
            {
                "id": "00000/000000000-0",
                "video": "unpacked/00000/000000000.jpg",
                "objects": [thing(CAR, "a red car near a blue ball"), thing(BALL, "a blue ball")],
                "metadata": {"caption": "a red car near a blue ball and trees", "url": "https://example.org/car.jpg"},
            }
        ],
        {"words fit several boxes of the picture": 2, "sample without a picture": 1},
    ),
    "videochat": (
        [
            {
                "id": "row-0",
                "video": "053551_053600/1024.mp4",
                "messages": talk(
                    "Describe the video.", "A red car drives to the right.", "Does it stop?", "No, it drives on."
                ),
                "metadata": {"file": "053551_053600/1024.mp4"},
            }
        ],
        {"video not found": 1},
    ),
    "elysiumtrack-1m": (
        [
            {
                "id": "1025983634-12",
                "video": [f"unpacked/frames/1025983634/{i:06d}.jpg" for i in range(3)],
                "objects": [
                    {
                        "expression": "a red car",
                        "caption": "a red car drives past a ball",
                        "box": [[x, 0.5, round(x + 0.3, 5), 0.83333] for x in (0.05, 0.1, 0.15)],
                        "absent": [0, 0, 0],
                    }
                ],
                "metadata": {"vid": "1025983634"},
            }
        ],
        {"number of boxes differs from number of frames": 1},
    ),
}


def plain(records, folder):
    """Records as JSON without what is the same in all of them, paths relative to the miniature."""
    found = []
    for record in records:
        data = record.to_json()
        names = [data["video"]] if isinstance(data["video"], str) else data["video"]
        names = [name.replace(str(folder) + "/", "", 1) for name in names]
        data["video"] = names[0] if isinstance(data["video"], str) else names
        for key in ("source", "license", "frame_size", "frames", "fps"):
            data.pop(key, None)
        if not data["objects"]:
            del data["objects"]
        for item in data.get("objects", []):
            item["box"] = [row and [round(value, 5) for value in row] for row in item["box"]]
        found.append(data)
    return found


def test_every_corpus_has_a_miniature():
    assert set(EXPECTED) == set(CORPORA) == set(ADAPTERS) - {"my-boxes"}


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_adapter_tells_its_layout(name):
    adapter = load_adapter(name)
    assert "Tasks: " in adapter.__doc__ and isinstance(adapter.SPLITS, tuple) and callable(adapter.read)


@pytest.mark.parametrize("name", EXPECTED)
def test_records(name, tmp_path):
    path, options = CORPORA[name](tmp_path)
    reading = Reading(**options)
    records = list(open_corpus(name, path, reading))
    expected, skipped = EXPECTED[name]
    assert plain(records, tmp_path) == expected
    assert dict(reading.skipped.counts) == skipped
    for record in records:
        assert parse_record(json.loads(json.dumps(record.to_json()))).source == record.source
        assert record.license
        shown = record if record.frame_indices else None
        if name != "videochat":
            assert (record.width, record.height) == m.SIZE
            assert [frame.shape for frame in open_frames(shown)] == [(120, 160, 3)] * record.num_frames


def test_mirror_gives_what_the_published_files_give(tmp_path):
    path, _ = m.refcoco_mirror(tmp_path)
    records = plain(open_corpus("refcoco", path), tmp_path)
    for record in records:
        for item in record["objects"]:
            item["attributes"] = {"category": "thing"}  # which the copies do not have
    assert [{**r, "objects": [dict(sorted(o.items())) for o in r["objects"]]} for r in records] == [
        {**r, "objects": [dict(sorted(o.items())) for o in r["objects"]]} for r in REFER
    ]


def test_a_data_set_of_the_hub(tmp_path, monkeypatch):
    path, options = m.elysium_track(tmp_path)
    asked = []

    def download(name, repo_type):
        asked.append((name, repo_type))
        if name.startswith("no"):
            raise OSError("offline")
        return str(path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    records = open_corpus("elysiumtrack-1m", "hf://datasets/sty-yyj/ElysiumTrack-1M", Reading(**options))
    assert plain(records, tmp_path) == EXPECTED["elysiumtrack-1m"][0]
    assert asked == [("sty-yyj/ElysiumTrack-1M", "dataset")]
    with pytest.raises(ValueError, match="hf://no/where cannot be had from the Hub: offline"):
        list(open_corpus("gqa", "hf://no/where"))


@pytest.mark.parametrize(
    ("name", "split", "ids"),
    [
        ("refcoco", "testA", ["581857-0"]),
        ("refcoco", "val", []),
        ("refcocog", "test", ["581857-0"]),
        ("cogvlm-sft-311k", "zh", [f"{DETAILS}/labels_zh/00000001"]),
    ],
)
def test_splits(name, split, ids, tmp_path):
    path, options = CORPORA[name](tmp_path)
    assert [record.id for record in open_corpus(name, path, Reading(split=split, **options))] == ids


def test_many_questions_of_a_picture_are_several_records(tmp_path):
    path, _ = m.gqa(tmp_path)
    file = tmp_path / "train_balanced_questions.json"
    (question,) = json.loads(file.read_text()).values()
    file.write_text(json.dumps({str(i): {**question, "answer": f"answer {i}"} for i in range(10)}))
    records = [record for record in open_corpus("gqa", path) if record.messages]
    assert [record.id for record in records] == ["2375429-questions-0", "2375429-questions-1"]
    answers = [message["content"] for record in records for message in record.messages[1::2]]
    assert answers == [f"answer {i}" for i in range(10)]


def test_tars_are_unpacked_once(tmp_path):
    path, options = m.elysium_track(tmp_path)
    first = plain(open_corpus("elysiumtrack-1m", path, Reading(**options)), tmp_path)
    (tmp_path / "packaged_results" / "group_aa.tar.gz").write_bytes(b"broken since")
    assert plain(open_corpus("elysiumtrack-1m", path, Reading(**options)), tmp_path) == first


def test_a_broken_shard_does_not_end_the_others(tmp_path):
    path, options = m.grit(tmp_path)
    whole = (tmp_path / "00000.tar").read_bytes()
    (tmp_path / "00001.tar").write_bytes(whole[:700])
    (tmp_path / "00002.tar").write_bytes(whole)
    reading = Reading(**options)
    found = [record.id for record in open_corpus("grit-20m", path, reading)]
    assert found == ["00000/000000000-0", "00002/000000000-0"]
    assert reading.skipped.counts["shard breaks off"] == 1
