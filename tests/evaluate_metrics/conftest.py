"""Fixtures that several files of this folder use."""

import pytest

from . import miniatures


@pytest.fixture
def lasot(tmp_path):
    miniatures.lasot(tmp_path / "LaSOT")
    return tmp_path / "LaSOT"
