"""What goes to the Hub: written, checked, loaded back, and uploaded only if asked."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, SpaceCard
from safetensors.torch import load_file, save_file

from scripts.hub_cards import check_model_card, check_space_card, eval_results, published_model_card
from scripts.hub_compare import compare_metric, compare_model
from scripts.publish import METRICS, ROOT, main, plan, push

DRAWN = ROOT / "tests" / "fixtures" / "drawn_shapes"
CARD = """---
license: apache-2.0
tags: [own]
base_model: facebook/dinov2-small
---

# A model

`pipeline("video-tracking", model="elysium", trust_remote_code=True)`

## Evaluation

Measured: today.

Tracking from a box: 54 tracks

| tracker | AUC | precision | frames |
| --- | --- | --- | --- |
| OpenCV CSRT | 0.617 | 0.854 | 9 |
| this model | 0.678 | 0.923 | 9 |

By name

| expressions | pictures asked | Acc@0.5 |
|---|---|---|
| known classes | 298 | 0.487 |
| new classes | 461 | 0.738 |

## Citation

| AUC | precision |
|---|---|
| 9 | 9 |
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    out = tmp_path_factory.mktemp("hub") / "out"
    assert main([str(out), "--model", str(DRAWN), "--owner", "someone", "--name", "drawn"]) == 0
    return out


def test_a_dry_run_writes_all_repositories(published):
    assert sorted(path.name for path in published.iterdir()) == ["metrics", "model", "space"]
    assert sorted(path.name for path in (published / "metrics").iterdir()) == sorted(METRICS)
    assert not [path for path in published.rglob("*") if path.is_symlink() or path.suffix == ".pyc"]
    assert not published.with_name("out.partial").exists()
    for name in ("app.py", "requirements.txt", "examples/sample.mp4", "tracking_elysium/session.py"):
        assert (published / "space" / name).is_file(), name
    assert (published / "space" / "elysium" / "model.safetensors").is_file()


def test_cards_say_what_the_hub_shows(published):
    model = ModelCard.load(published / "model" / "README.md")
    assert model.data.pipeline_tag == "video-text-to-text" and model.data.license == "apache-2.0"
    assert {"video-tracking", "elysium"} <= set(model.data.tags)
    assert 'model="someone/drawn"' in model.text and 'model="elysium"' not in model.text
    assert (published / "model" / "sample.mp4").is_file()
    for name in METRICS:
        card = SpaceCard.load(published / "metrics" / name / "README.md")
        assert card.data.license == "apache-2.0" and "metric" in card.data.tags
        assert f'evaluate.load("someone/{name}")' in card.text
        assert f'evaluate.load("someone/{name}")' in (published / "metrics" / name / "app.py").read_text()
    space = SpaceCard.load(published / "space" / "README.md").data
    assert space.models == ["someone/drawn"] and space.license == "apache-2.0"


def test_the_numbers_of_a_card_are_in_its_metadata():
    card = published_model_card(CARD, "someone/drawn", None)
    again = ModelCard(str(card))  # as the Hub reads it
    found = [(one.dataset_name, one.metric_type, one.metric_value) for one in again.data.eval_results]
    assert found == [
        ("Tracking from a box: 54 tracks", "success_auc", 0.678),
        ("Tracking from a box: 54 tracks", "precision", 0.923),
        ("By name: known classes", "accuracy", 0.487),
        ("By name: new classes", "accuracy", 0.738),
    ]
    assert again.data.base_model == "facebook/dinov2-small" and again.data.tags[-1] == "own"
    assert eval_results("# no such section") == []


def test_the_embedded_card_has_results():
    results = eval_results(ModelCard.load(ROOT / "elysium" / "README.md").text)
    assert {one.metric_type for one in results} >= {"success_auc", "precision", "accuracy"}
    assert all(0 < one.metric_value <= 1 for one in results)


def test_a_space_has_the_narrower_license_of_its_weights(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    terms = "license: other\nlicense_name: research-use-only\nlicense_link: README.md"
    (model / "README.md").write_text(CARD.replace("license: apache-2.0", terms))
    (part,) = plan(model, "drawn", ("space",))
    part.write(tmp_path / "space", "someone/drawn-demo")
    card = check_space_card(tmp_path / "space" / "README.md").data
    assert (card.license, card.license_name, card.license_link) == ("other", "research-use-only", "elysium/README.md")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("license: apache-2.0", "license: other"), "`license` 'other' needs `license_name`"),
        (("license: apache-2.0\n", ""), "lacks license"),
        (("pipeline_tag: video-text-to-text", "pipeline_tag: object-detection"), "`pipeline_tag` must be"),
    ],
)
def test_a_card_of_no_use_is_refused(tmp_path, change, message):
    text = str(published_model_card(CARD, "a/b", None))
    assert change[0] in text
    (tmp_path / "README.md").write_text(text.replace(*change))
    with pytest.raises(ValueError, match=message):
        check_model_card(tmp_path / "README.md")


def test_a_space_without_its_application_is_refused(tmp_path):
    shutil.copyfile(ROOT / "space" / "README.md", tmp_path / "README.md")
    with pytest.raises(ValueError, match="`app_file` names 'app.py'"):
        check_space_card(tmp_path / "README.md")


def spoil_weight(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = sorted(weights)[0]
    weights[name] = weights[name] + 1
    save_file(weights, path, {"format": "pt"})


def spoil_config(folder):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "position_ids_mode": "original"}))


def spoil_code(folder):
    (folder / "boxes.py").write_text("GRID = 1000")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(spoil_weight, "is not that of"), (spoil_config, "config.json says"), (spoil_code, "is not the same file")],
)
def test_a_model_that_differs_is_noticed(published, tmp_path, spoil, message):
    folder = tmp_path / "model"
    shutil.copytree(published / "model", folder)
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        compare_model(DRAWN, folder)


def test_a_metric_that_differs_is_noticed(published, tmp_path):
    folder = tmp_path / "tracking_ope"
    shutil.copytree(published / "metrics" / "tracking_ope", folder)
    (folder / "ope.py").write_text((folder / "ope.py").read_text() + "\n")
    with pytest.raises(ValueError, match="is not the same file"):
        compare_metric(ROOT / "evaluate_metrics" / "tracking_ope", folder)


class Hub:
    """Notes what it is asked for."""

    def __init__(self):
        self.calls = []

    def create_repo(self, name, **options):
        self.calls.append(("create", name, options))
        return f"https://hub/{name}"

    def upload_folder(self, **options):
        self.calls.append(("upload", options["repo_id"], options["repo_type"]))


def test_an_upload_is_private_and_its_cards_are_validated_first(published, monkeypatch):
    hub, validated = Hub(), []
    monkeypatch.setattr(ModelCard, "validate", lambda self: validated.append("model"))
    monkeypatch.setattr(SpaceCard, "validate", lambda self: validated.append("space"))
    parts = plan(DRAWN, "drawn", ("model", "space"))
    assert push(published, "someone", parts, api=hub) == [
        "https://hub/someone/drawn",
        "https://hub/someone/drawn-demo",
    ]
    assert validated == ["model", "space"]
    assert [call[:2] for call in hub.calls] == [
        ("create", "someone/drawn"), ("upload", "someone/drawn"),
        ("create", "someone/drawn-demo"), ("upload", "someone/drawn-demo"),
    ]  # fmt: skip
    assert all(call[2]["private"] for call in hub.calls if call[0] == "create")
    with pytest.raises(ValueError, match="holds no 'dataset'"):
        push(published, "someone", plan(DRAWN, "drawn", (), Path("build")), api=hub)


def test_nothing_is_overwritten_and_errors_are_sentences(published, tmp_path, capsys):
    assert main([str(published), "--model", str(DRAWN)]) == 2
    assert "exists and is not overwritten" in capsys.readouterr().err
    assert main([str(tmp_path / "new"), "--model", str(tmp_path)]) == 2
    assert "holds no config.json" in capsys.readouterr().err and not (tmp_path / "new").exists()
