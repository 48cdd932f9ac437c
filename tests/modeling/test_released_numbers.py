"""A converted checkpoint computes what the authors' code computed, and goes back bit for bit.

The checkpoint and the numbers are not part of this repository; without them the tests skip. The same table is printed
by `python -m benchmarks.released_numbers FOLDER`.
"""

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from benchmarks.released_numbers import compare, compare_training
from modeling_elysium.conversion.files import CheckpointReader
from modeling_elysium.convert_elysium_weights_to_hf import convert, convert_to_original
from tests.modeling.released_checkpoints import FIXTURE

pytestmark = pytest.mark.skipif(not FIXTURE.is_dir(), reason="the fixture of the authors' code is not here")


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    out = tmp_path_factory.mktemp("released") / "out"
    convert(str(FIXTURE), out)
    return out


@pytest.mark.parametrize("part", [compare, compare_training])
def test_numbers(converted, part):
    model = AutoModelForImageTextToText.from_pretrained(converted, dtype=torch.float32).eval()
    rows = part(model, AutoProcessor.from_pretrained(converted), FIXTURE)
    assert len(rows) > 7 and not [str(row) for row in rows if not row.passed]


def test_there_and_back(converted, tmp_path):
    convert_to_original(str(converted), tmp_path / "back", vision=str(FIXTURE))
    theirs, back = (dict(CheckpointReader(folder).tensors()) for folder in (FIXTURE, tmp_path / "back"))
    assert set(theirs) - set(back) == {"adapter.score_proj.weight", "adapter.score_proj.bias"}
    assert all(torch.equal(back[key], theirs[key]) for key in back)
