"""A saved processor comes back with every field, with our package and, by the code it carries, without it."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from transformers import AutoImageProcessor, AutoProcessor

from processing_elysium import ElysiumImageProcessor, ElysiumProcessor
from tests.processing.tiny_processor import tiny_tokenizer

CODE = {
    "boxes.py",
    "frames.py",
    "image_processing_elysium.py",
    "processing_elysium.py",
    "prompts.py",
    "video_reader.py",
}


@pytest.fixture(scope="module")
def processor() -> ElysiumProcessor:
    """A processor whose every field differs from its default."""
    image_processor = ElysiumImageProcessor(
        size={"height": 20, "width": 24},
        resample=3,
        rescale_factor=1 / 127.5,
        image_mean=[1.0, 0.9, 0.8],
        image_std=[0.5, 0.6, 0.7],
        do_resize=True,
    )
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<pic>"], special_tokens=True)
    return ElysiumProcessor(
        image_processor,
        tokenizer,
        chat_template="{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}<pic>",
        num_image_tokens=7,
        image_token="<pic>",
        box_rounding="round",
    )


@pytest.fixture(scope="module")
def folder(processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    processor.save_pretrained(folder)
    return folder


def fields(processor) -> dict:
    """All that is saved, as plain JSON, without the note where the code lies."""
    saved = json.loads(processor.to_json_string())
    saved["image_processor"].pop("auto_map", None)
    saved.pop("auto_map", None)
    saved["chat_template"] = processor.chat_template
    return saved


def test_folder_is_self_contained(folder):
    names = {path.name for path in folder.iterdir()}
    assert CODE | {"chat_template.jinja", "processor_config.json", "tokenizer.json"} <= names
    assert json.loads((folder / "processor_config.json").read_text())["auto_map"] == {
        "AutoProcessor": "processing_elysium.ElysiumProcessor"
    }


def test_every_init_argument_is_a_saved_field(processor):
    import inspect

    arguments = set(inspect.signature(ElysiumProcessor.__init__).parameters) - {"self", "tokenizer"}
    assert arguments <= set(fields(processor))


def test_round_trip_with_the_package(processor, folder, tmp_path):
    again = AutoProcessor.from_pretrained(folder)
    assert type(again) is ElysiumProcessor and fields(again) == fields(processor)
    assert type(AutoImageProcessor.from_pretrained(folder)) is ElysiumImageProcessor
    again.save_pretrained(tmp_path)
    assert fields(AutoProcessor.from_pretrained(tmp_path)) == fields(processor)
    text, image = "hi <pic>", np.zeros((9, 9, 3), np.uint8)
    assert again(text=text, images=[image])["input_ids"] == processor(text=text, images=[image])["input_ids"]


def test_arguments_override_saved_fields(folder):
    assert AutoProcessor.from_pretrained(folder, num_image_tokens=3).num_image_tokens == 3


def test_round_trip_without_the_package(processor, folder, tmp_path):
    script = textwrap.dedent(
        f"""
        import json, sys
        class Hidden:  # makes our packages unimportable, installed or not
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("processing_elysium", "modeling_elysium", "tracking_elysium"):
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Hidden())
        import numpy as np
        from transformers import AutoImageProcessor, AutoProcessor
        processor = AutoProcessor.from_pretrained({str(folder)!r}, trust_remote_code=True)
        processor.save_pretrained({str(tmp_path / "again")!r})
        processor = AutoProcessor.from_pretrained({str(tmp_path / "again")!r}, trust_remote_code=True)
        images = AutoImageProcessor.from_pretrained({str(folder)!r}, trust_remote_code=True)
        print(json.dumps({{
            "fields": processor.to_json_string(), "template": processor.chat_template, "images": type(images).__name__,
            "frames": len(processor.open_video(np.zeros((2, 4, 4, 3), np.uint8)).read([0, 1])),
            "box": processor.format_box([0, 0, 1, 1]),
            "valid": processor.post_process_boxes("[1,2,30,40]").valid.tolist(),
            "messages": len(processor.build_messages("sot", 2, box=[0, 0, 1, 1])),
        }}))
        """
    )
    environment = {"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    saved = json.loads(result["fields"])
    saved["image_processor"].pop("auto_map", None)
    saved.pop("auto_map", None)
    assert {**saved, "chat_template": result["template"]} == fields(processor)
    assert (result["images"], result["frames"], result["box"]) == ("ElysiumImageProcessor", 2, "[0,0,100,100]")
    assert result["valid"] == [True] and result["messages"] == 1
    names = {path.name for path in (tmp_path / "again").iterdir()}
    assert CODE | {"chat_template.jinja", "processor_config.json"} <= names
