"""What conversion needs beside the checkpoint: packages for a sentencepiece tokenizer, and the Hub for --push-to."""

import json
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError
from transformers import AutoProcessor

from modeling_elysium.conversion import plan as convert_plan
from modeling_elysium.convert_elysium_weights_to_hf import convert
from tests.modeling.released_checkpoints import write_released
from tracking_elysium.cli import main as elysium


def write_sentencepiece(folder):
    """A tokenizer.model in place of tokenizer.json, as old Llama checkpoints have it."""
    sentencepiece = pytest.importorskip("sentencepiece")
    corpus = [f"Frame {i}: [{i},40,51,67], the black swan swims on lake {i * 7}." for i in range(100)]
    with open(folder / "tokenizer.model", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus), model_writer=file, vocab_size=99, model_type="bpe", pad_id=-1,
            unk_id=0, bos_id=1, eos_id=2, minloglevel=2,
        )  # fmt: skip
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))


def test_a_sentencepiece_tokenizer_is_read(tmp_path):
    pytest.importorskip("google.protobuf")
    source = write_released(tmp_path / "source")
    write_sentencepiece(source / "llm")
    convert(str(source), tmp_path / "out", verify=False)
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    tokenizer = processor.tokenizer
    ids = tokenizer.encode("Frame 1: [34,40,51,67]<image>", add_special_tokens=False)
    assert tokenizer.unk_token_id not in ids and ids[-1] == processor.image_token_id == 99
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Frame 1: [34,40,51,67]"


@pytest.mark.parametrize(
    ("absent", "words"),
    [
        ("google", "needs protobuf: .*convert"),
        ("google.protobuf", "needs protobuf: .*convert"),  # another distribution brought the namespace
        ("sentencepiece", "needs sentencepiece: .*convert"),
    ],
)
def test_the_message_names_the_extra(tmp_path, monkeypatch, absent, words):
    source = write_released(tmp_path / "source")
    (source / "llm" / "tokenizer.json").unlink()
    (source / "llm" / "tokenizer.model").write_bytes(b"?")
    monkeypatch.setattr(convert_plan, "find_spec", lambda name: None if name == absent else object())
    with pytest.raises(ValueError, match=words):
        convert(str(source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Recorder:
    """Stands in for the Hub's client and writes down what it is asked."""

    def __init__(self, failure=None):
        self.calls, self.failure = [], failure

    def __call__(self):
        return self

    def create_repo(self, repo_id, **options):
        self.calls.append(("create_repo", repo_id, options))

    def upload_folder(self, repo_id, folder_path, **options):
        if self.failure:
            raise self.failure
        files = sorted(path.name for path in Path(folder_path).iterdir())
        self.calls.append(("upload_folder", repo_id, files, options))


def test_push_to_uploads_the_finished_folder(tmp_path, monkeypatch, capsys):
    hub = Recorder()
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    source, out = write_released(tmp_path / "source"), tmp_path / "out"
    assert elysium(["convert", str(source), str(out), "--no-verify", "--push-to", "org/name"]) == 0
    (create, upload) = hub.calls
    assert create == ("create_repo", "org/name", {"exist_ok": True})  # a second push is no error
    assert upload[:2] == ("upload_folder", "org/name") and upload[2] == sorted(p.name for p in out.iterdir())
    assert {"model.safetensors", "config.json", "README.md", "modeling_elysium.py"} <= set(upload[2])
    assert "uploaded to org/name" in capsys.readouterr().out


def test_a_failed_push_keeps_the_folder(tmp_path, monkeypatch, capsys):
    response = type("Response", (), {"headers": {}, "status_code": 403, "request": None})()
    monkeypatch.setattr(huggingface_hub, "HfApi", Recorder(HfHubHTTPError("403: no write access", response=response)))
    source, out = write_released(tmp_path / "source"), tmp_path / "out"
    assert elysium(["convert", str(source), str(out), "--no-verify", "--push-to", "org/name"]) == 2
    error = capsys.readouterr().err
    assert "is written, but --push-to 'org/name' failed" in error and "no write access" in error
    assert (out / "model.safetensors").is_file()


def test_no_push_without_a_conversion(tmp_path, monkeypatch):
    hub = Recorder()
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    assert elysium(["convert", str(tmp_path / "nothing"), str(tmp_path / "out"), "--push-to", "org/name"]) == 2
    assert not hub.calls
