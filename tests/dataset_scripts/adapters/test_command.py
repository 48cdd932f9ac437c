"""The command: records that training can read, counts, and refusals before anything is lost."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_scripts.adapters import ADAPTERS
from dataset_scripts.adapters.command import main
from dataset_scripts.records import read_records
from dataset_scripts.sources import RecordsSource

from . import miniatures, my_miniatures
from .contact_sheet import CORPORA
from .contact_sheet import main as draw_all

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_records_can_be_read_from_where_they_are(corpus, tmp_path, capsys):
    my_miniatures.cvat(corpus)
    sheet = tmp_path / "look.png"
    assert (
        main(["my-boxes", str(corpus), "--out", str(tmp_path / "out" / "r.jsonl"), "--contact-sheet", str(sheet)]) == 0
    )
    (record,) = read_records(tmp_path / "out" / "r.jsonl")
    assert record.video == "../data/street.mp4"
    rng = np.random.default_rng(0)
    clip = RecordsSource(path=str(tmp_path / "out" / "r.jsonl")).read(0, 3, rng, rng)
    assert len(clip.frames) == 3 and clip.frames[0].shape == (120, 160, 3)
    out = capsys.readouterr().out
    assert "1 records: 2 objects (2 with an expression) with 8 boxes, 0 answers" in out
    assert "1 x track of polyline, not of boxes" in out and "annotations.xml, line 15" in out
    with Image.open(sheet) as image:
        assert image.width > 300 and len(set(image.resize((40, 20)).tobytes())) > 10


@pytest.mark.parametrize("name", CORPORA)
def test_every_corpus_is_written_and_read_again(name, corpus, tmp_path):
    CORPORA[name](corpus)
    options = ["--extract-to", str(tmp_path / "unpacked")] if name in ("grit-20m", "elysiumtrack-1m") else []
    assert main([name, str(corpus), "--out", str(tmp_path / "r.jsonl"), *options]) == 0
    source = RecordsSource(path=str(tmp_path / "r.jsonl"))
    rng = np.random.default_rng(0)
    for index in range(len(source)):
        clip = source.read(index, 2, rng, rng)
        assert clip.frames and clip.record.source


def test_limit(corpus, tmp_path, capsys):
    miniatures.refcoco(corpus)
    assert main(["refcoco", str(corpus), "--out", str(tmp_path / "r.jsonl"), "--limit", "1"]) == 0
    assert len(list(read_records(tmp_path / "r.jsonl"))) == 1


def test_pictures_may_be_elsewhere(corpus, tmp_path):
    miniatures.refcoco(corpus)
    (tmp_path / "coco").mkdir()
    (corpus / "train2014").rename(tmp_path / "coco" / "train2014")
    command = ["refcoco", str(corpus), "--out", str(tmp_path / "r.jsonl")]
    assert main(command) == 1
    assert not (tmp_path / "r.jsonl").exists()
    assert main([*command, "--images", str(tmp_path / "coco")]) == 0


def test_an_id_is_written_once(corpus, tmp_path, capsys):
    miniatures.llava(corpus)
    file = corpus / "blip_laion_cc_sbu_558k.json"
    rows = json.loads(file.read_text())
    file.write_text(json.dumps([rows[0], rows[0]]))
    assert main(["llava-558k", str(corpus), "--out", str(tmp_path / "r.jsonl")]) == 0
    assert len(list(read_records(tmp_path / "r.jsonl"))) == 1
    assert "1 x id that was there before: 004539375" in capsys.readouterr().out


REFUSED = [
    ([], "nothing to do; give --out FILE"),
    (["--out", "{old}"], "exists; give another name, or --overwrite"),
    (["--contact-sheet", "{old}"], "exists; give another name"),
    (["--out", "{folder}"], "is a folder; give the name of a file"),
    (["--contact-sheet", "{folder}/x.gif"], r"has to end in .png or .jpg"),
    (["--out", "{folder}/n.jsonl", "--limit", "0"], "--limit 0: give 1 or more"),
    (["--out", "{folder}/n.jsonl", "--images", "{folder}/gone"], "is no folder"),
    (["--out", "{folder}/n.jsonl", "--split", "train"], "this corpus has none"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[message[:20] for _, message in REFUSED])
def test_refusals(options, message, corpus, tmp_path, capsys):
    my_miniatures.cvat(corpus)
    old = tmp_path / "old.png"
    old.write_text("precious")
    given = [option.format(old=old, folder=tmp_path) for option in options]
    assert main(["my-boxes", str(corpus), *given]) == 2
    assert message in capsys.readouterr().err
    assert old.read_text() == "precious" and sorted(p.name for p in tmp_path.iterdir()) == ["data", "old.png"]


def test_overwriting_is_asked_for(corpus, tmp_path):
    my_miniatures.cvat(corpus)
    out = tmp_path / "r.jsonl"
    out.write_text("old")
    assert main(["my-boxes", str(corpus), "--out", str(out), "--overwrite"]) == 0
    assert len(list(read_records(out))) == 1


def test_an_error_in_the_middle_leaves_what_was_there(corpus, tmp_path, capsys):
    for name in ("a", "b"):
        (corpus / name).mkdir()
        my_miniatures.cvat(corpus / name)
    (corpus / "b" / "annotations.xml").write_text("<annotations>")
    out = tmp_path / "r.jsonl"
    out.write_text("old")
    assert main(["my-boxes", str(corpus), "--out", str(out), "--overwrite"]) == 2
    assert "annotations.xml, line 1: no XML" in capsys.readouterr().err
    assert out.read_text() == "old" and sorted(p.name for p in tmp_path.iterdir()) == ["data", "r.jsonl"]


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_name_alone_tells_the_layout(name, capsys):
    assert main([name]) == 0
    assert "Tasks: " in capsys.readouterr().out


def test_unknown_name(capsys):
    assert main(["refcocoplus"]) == 2
    assert "choose one of llava-558k" in capsys.readouterr().err


def test_help_teaches_and_is_quick():
    code = "import sys; from dataset_scripts.adapters.command import make_parser; make_parser().print_help(); "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
    assert all(name in done.stdout for name in ADAPTERS) and "--contact-sheet look.png" in done.stdout


def test_the_picture_of_all_miniatures(tmp_path):
    draw_all(str(tmp_path / "all.png"))
    assert (tmp_path / "all.png").stat().st_size < 300_000
    assert (ROOT / "docs" / "data_adapters.png").stat().st_size < 300_000
