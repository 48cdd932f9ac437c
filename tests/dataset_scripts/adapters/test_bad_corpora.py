"""What is broken in a corpus: an item is skipped, counted and named; a wrong folder is one clear error."""

import json
import pickle

import pytest
from PIL import Image

from dataset_scripts.adapters import Reading, open_corpus

from . import miniatures as m
from .contact_sheet import CORPORA
from .test_corpora import DETAILS, TALK


def edited(file, change):
    """Change the data in a JSON file."""

    def edit(folder):
        data = json.loads((folder / file).read_text())
        change(data)
        (folder / file).write_text(json.dumps(data))

    return edit


def replaced(file, text):
    def edit(folder):
        (folder / file).write_text(text)

    return edit


def removed(file):
    def edit(folder):
        (folder / file).unlink()

    return edit


def resized(file):
    def edit(folder):
        Image.new("RGB", (80, 60)).save(folder / file)

    return edit


def regions(change):
    return edited("region_descriptions.json", lambda data: change(data[0]["regions"][0]))


def referred(change):
    """Change what is pickled."""

    def edit(folder):
        data = pickle.loads((folder / "refcoco/refs(unc).p").read_bytes())
        change(data)
        (folder / "refcoco/refs(unc).p").write_bytes(pickle.dumps(data, protocol=2))

    return edit


LLAVA, VQA = "blip_laion_cc_sbu_558k.json", "v2_OpenEnded_mscoco_train2014_questions.json"
PICTURE = "images/00453/004539375.jpg"
SKIPS = [
    ("llava-558k", replaced(PICTURE, "no jpeg"), "picture cannot be read"),
    ("llava-558k", edited(LLAVA, lambda d: d[0].pop("conversations")), "annotation is not of the published form"),
    ("llava-558k", edited(LLAVA, lambda d: d[0]["conversations"].pop()), "questions and answers do not take turns"),
    ("llava-558k", edited(LLAVA, lambda d: d[0]["conversations"][1].update(value=" ")), "question or answer is empty"),
    ("llava-558k", edited(LLAVA, lambda d: d.insert(0, 7)), "annotation is not of the published form"),
    ("cogvlm-sft-311k", replaced(f"{DETAILS}/labels_en/00000001.json", "{"), "label file is no JSON"),
    ("cogvlm-sft-311k", removed(f"{TALK}/images/00000002.jpg"), "picture not found"),
    ("coco-vqa", edited(VQA, lambda d: d["questions"][0].pop("image_id")), "annotation is not of the published form"),
    ("coco-vqa", edited(VQA, lambda d: d["questions"][0].update(question="")), "question or answer is empty"),
    (
        "gqa",
        edited("train_balanced_questions.json", lambda d: d.update(x=3)),
        "annotation is not of the published form",
    ),
    ("gqa", resized("images/2375429.jpg"), "picture has another size than its annotation says"),
    (
        "visual7w",
        edited("dataset_v7w_pointing.json", lambda d: d["boxes"].pop(0)),
        "answer names a box that is not listed",
    ),
    ("visual7w", edited("dataset_v7w_pointing.json", lambda d: d["boxes"][0].update(width=0)), "box has no area"),
    (
        "visual7w",
        edited("dataset_v7w_telling.json", lambda d: d["images"][0].update(filename="x")),
        "picture not found",
    ),
    ("flickr30k", removed("Annotations/1000092795.xml"), "annotation file not found"),
    ("flickr30k", removed("Sentences/1000092795.txt"), "caption file not found"),
    ("flickr30k", replaced("Annotations/1000092795.xml", "<annotation>"), "annotation file is no XML"),
    ("flickr30k", replaced("Annotations/1000092795.xml", "<a/>"), "annotation is not of the published form"),
    ("visual-genome", regions(lambda r: r.update(x=200)), "box is outside the frame"),
    ("visual-genome", regions(lambda r: r.update(x=0, width=10_000)), "box reaches far outside the frame"),
    ("visual-genome", regions(lambda r: r.update(height="tall")), "box is not four numbers"),
    ("visual-genome", regions(lambda r: r.pop("phrase")), "annotation is not of the published form"),
    ("visual-genome", regions(lambda r: r.update(phrase=" ")), "words are missing"),
    ("refcoco", referred(lambda d: d[0].update(ann_id=9)), "object is not in instances.json"),
    ("refcoco", referred(lambda d: [r.update(image_id=9) for r in d]), "picture is not in instances.json"),
    ("refcoco", referred(lambda d: d[1]["sentences"][0].update(sent="")), "words are missing"),
    ("refcoco", referred(lambda d: d.append("x")), "annotation is not of the published form"),
    ("videochat", edited("videochat_instruct_11k.json", lambda d: d[0].update(QA=[])), "question or answer is empty"),
    ("videochat", edited("videochat_instruct_11k.json", lambda d: d[0].pop("QA")), "annotation is not of the publish"),
]


@pytest.mark.parametrize(("name", "edit", "reason"), SKIPS, ids=[f"{s[0]}-{i}" for i, s in enumerate(SKIPS)])
def test_a_bad_item_is_counted_and_named(name, edit, reason, tmp_path):
    path, options = CORPORA[name](tmp_path)
    before = Reading(**options)
    list(open_corpus(name, path, before))
    edit(tmp_path)
    reading = Reading(**options)
    list(open_corpus(name, path, reading))
    found = {key: count for key, count in reading.skipped.counts.items() if key.startswith(reason)}
    assert sum(found.values()) == sum(c for k, c in before.skipped.counts.items() if k.startswith(reason)) + 1, (
        reading.skipped.lines()
    )
    assert all(reading.skipped.examples[key] for key in found)


TRACK_SKIPS = [
    ({"box": [[0.1, 0.1, 0.2, 0.2]] * 2}, "number of boxes differs from number of frames"),
    ({"frames": [f"frames/1025983634/{i:06d}.jpg" for i in (0, 1, 9)]}, "frame not found"),
    ({"frame_size": [336, 600]}, "frames have another size than the annotation says"),
    ({"box": [[0.2, 0.1, 0.2, 0.2]] * 3}, "no usable box in the first frame"),
    ({"frame_size": None}, "annotation is not of the published form"),
]


@pytest.mark.parametrize(("change", "reason"), TRACK_SKIPS)
def test_a_bad_track_is_counted(change, reason, tmp_path):
    path, options = m.elysium_track(tmp_path)
    (tmp_path / "ElysiumTrack-1M.json").write_text(json.dumps({**m.elysium_row(), **change}))
    reading = Reading(**options)
    assert list(open_corpus("elysiumtrack-1m", path, reading)) == []
    assert reading.skipped.counts[reason] == 1


def nothing(folder):
    for file in sorted(folder.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()


ERRORS = [
    *[(name, nothing, {}, message) for name, message in {
        "llava-558k": "lacks blip_laion_cc_sbu_558k.json",
        "cogvlm-sft-311k": "holds no folder named labels",
        "coco-vqa": "lacks v2_OpenEnded_mscoco_train2014_questions.json",
        "gqa": "holds neither train_balanced_questions.json nor",
        "visual7w": "holds neither dataset_v7w_telling.json nor",
        "flickr30k": "lacks Sentences",
        "visual-genome": "holds neither region_descriptions.json nor",
        "refcoco": r"holds neither refcoco/refs\(unc\).p",
        "refcoco+": r"holds neither refcoco\+/refs\(unc\).p",
        "refcocog": r"holds neither refcocog/refs\(umd\).p",
        "grit-20m": "holds no .tar",
        "videochat": "lacks videochat_instruct_11k.json",
        "elysiumtrack-1m": "lacks ElysiumTrack-1M.json",
    }.items()],
    ("llava-558k", replaced(LLAVA, '[{"id": 1},\n nonsense]'), {}, "558k.json, line 2: no JSON"),
    ("gqa", replaced("train_sceneGraphs.json", "3"), {}, "train_sceneGraphs.json, line 1: no JSON"),
    ("refcoco", removed("refcoco/instances.json"), {}, "lacks instances.json, which has the boxes"),
    ("refcoco", replaced("refcoco/refs(unc).p", "no pickle"), {}, "is no pickle of plain lists"),
    ("refcoco", referred(lambda d: None), {"split": "test"}, "split 'test' of refcoco: choose one of train, val, tes"),
    ("llava-558k", removed(PICTURE), {"split": "train"}, "this corpus has none"),
    ("grit-20m", removed("00000.tar"), {"extract_to": None}, "holds no .tar"),
    ("elysiumtrack-1m", removed("packaged_results/group_aa.tar.gz"), {}, r"holds no packaged_results/\*.tar.gz"),
    ("elysiumtrack-1m", lambda folder: None, {"extract_to": None}, "lacks the folder frames; unpack"),
    ("videochat", replaced("videochat_instruct_11k.json", '{"video": "a"}\n{oops}'), {}, "line 2: no JSON"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "edit", "options", "message"), ERRORS, ids=[f"{e[0]}-{i}" for i, e in enumerate(ERRORS)]
)
def test_a_wrong_folder_is_one_clear_error(name, edit, options, message, tmp_path):
    path, given = CORPORA[name](tmp_path)
    edit(tmp_path)
    tmp_path.mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=message):
        list(open_corpus(name, path, Reading(**{**given, **options})))


def test_grit_asks_for_a_folder_to_unpack_to(tmp_path):
    path, _ = m.grit(tmp_path)
    with pytest.raises(ValueError, match="--extract-to FOLDER"):
        list(open_corpus("grit-20m", path))


def test_archives_do_not_leave_their_folder(tmp_path):
    path, options = m.elysium_track(tmp_path)
    m.tar_of(tmp_path / "packaged_results" / "group_aa.tar.gz", {"../escaped.jpg": b"x"}, "w:gz")
    with pytest.raises(ValueError, match="leaves the folder"):
        list(open_corpus("elysiumtrack-1m", path, Reading(**options)))
    assert not (tmp_path / "escaped.jpg").exists()


def test_unknown_names_and_paths(tmp_path):
    with pytest.raises(ValueError, match="no adapter 'refcocoplus'; choose one of llava-558k"):
        list(open_corpus("refcocoplus", tmp_path))
    with pytest.raises(ValueError, match="does not exist; give the folder of gqa"):
        list(open_corpus("gqa", tmp_path / "gone"))
