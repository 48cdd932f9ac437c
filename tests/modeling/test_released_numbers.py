"""A converted checkpoint computes what the authors' code computed, and goes back bit for bit.

The authors' numbers are not part of this repository: tests on them skip without. A small random checkpoint in their
layout takes their place in every clone; its numbers are those of the plain `reference_model`, which is held against
the authors' numbers where these are. The same table is printed by `python -m benchmarks.released_numbers FOLDER`.
"""

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from benchmarks.released_numbers import compare, compare_training
from modeling_elysium.conversion.files import CheckpointReader
from modeling_elysium.convert_elysium_weights_to_hf import convert, convert_to_original
from processing_elysium import ElysiumImageProcessor
from tests.modeling import reference_model
from tests.modeling.reference_model import ReferenceModel
from tests.modeling.released_checkpoints import FIXTURE

AUTHORS = pytest.mark.skipif(not FIXTURE.is_dir(), reason="the fixture of the authors' code is not here")


@pytest.fixture(scope="module", params=["random", pytest.param("authors", marks=AUTHORS)])
def original(request, tmp_path_factory):
    if request.param == "authors":
        return FIXTURE
    return reference_model.write_with_numbers(tmp_path_factory.mktemp("random") / "source")


@pytest.fixture(scope="module")
def converted(original, tmp_path_factory):
    out = tmp_path_factory.mktemp("released") / "out"
    convert(str(original), out)
    return out


@pytest.mark.parametrize("part", [compare, compare_training])
def test_numbers(original, converted, part):
    model = AutoModelForImageTextToText.from_pretrained(converted, dtype=torch.float32).eval()
    rows = part(model, AutoProcessor.from_pretrained(converted), original)
    assert len(rows) > 7 and not [str(row) for row in rows if not row.passed]


def test_there_and_back(original, converted, tmp_path):
    convert_to_original(str(converted), tmp_path / "back", vision=str(original))
    theirs, back = (dict(CheckpointReader(folder).tensors()) for folder in (original, tmp_path / "back"))
    assert set(theirs) - set(back) == {"adapter.score_proj.weight", "adapter.score_proj.bias"}
    assert all(torch.equal(back[key], theirs[key]) for key in back)


def test_the_numbers_in_the_repository_are_those_of_the_reference():
    stored, computed = np.load(reference_model.NUMBERS), reference_model.random_numbers()
    assert set(stored.files) == set(computed)
    for name in stored.files:
        np.testing.assert_allclose(stored[name], computed[name], atol=1e-5, rtol=1e-5, err_msg=name)


def test_a_wrong_number_is_seen(tmp_path):
    """The table can fail: another seed's weights do not give these numbers."""
    folder = reference_model.write_with_numbers(tmp_path / "source")
    reference_model.write_released(folder, reference_model.released_tensors(seed=1))
    convert(str(folder), tmp_path / "out", verify=False)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    rows = compare(model, AutoProcessor.from_pretrained(tmp_path / "out"), folder)
    failed = {row.name for row in rows if not row.passed}
    assert {"A tower", "A selector scores", "A proj_out", "B logits, last 8 positions", "B greedy ids"} <= failed


@AUTHORS
def test_the_reference_computes_what_the_authors_code_computed():
    oracle, model = np.load(FIXTURE / "oracle.npz"), ReferenceModel.load(FIXTURE)
    images = ElysiumImageProcessor()
    clips, batch = {}, []
    for number, clip in enumerate(reference_model.CLIPS):
        pixels = images(list(oracle[f"frames_vid{clip}"]), return_tensors="pt")["pixel_values"]
        clips[clip] = pixels, oracle[f"{clip}.input_ids"][0].tolist()
        labels = oracle["T.labels"][number].tolist()
        length = 1 + max(place for place, label in enumerate(labels) if label != -100)
        batch.append((pixels, oracle["T.input_ids"][number][:length].tolist(), labels[:length]))
    ours = reference_model.numbers_of(model, clips) | reference_model.training_numbers_of(model, batch)
    for name, value in ours.items():
        np.testing.assert_allclose(value, oracle[name], atol=1e-4, rtol=0, err_msg=name)
