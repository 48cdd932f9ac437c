"""The check of the library's version."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from modeling_elysium.versions import MINIMUM_TRANSFORMERS, check_transformers
from processing_elysium import registration

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("found", "works"),
    [
        (MINIMUM_TRANSFORMERS, True),
        (f"{MINIMUM_TRANSFORMERS}.0", True),
        ("5.99.0.dev0", True),  # from source
        ("6.0.0rc1", True),  # not known to fail
        ("5.22.2", False),
        ("5.9.2", False),  # less, though not as text
        ("4.57.6", False),
        ("5", False),
    ],
)
def test_versions(found, works):
    if works:
        check_transformers(found)
    else:
        with pytest.raises(
            ImportError, match=rf'found {found}: pip install "transformers>={MINIMUM_TRANSFORMERS},<6"'
        ):
            check_transformers(found)


@pytest.mark.parametrize(
    "line",
    ["from modeling_elysium import ElysiumConfig", "from processing_elysium import ElysiumProcessor"],
)
def test_import_with_an_old_library(tmp_path, line):
    """The message comes before any name that the old library lacks."""
    (tmp_path / "transformers.py").write_text("__version__ = '4.57.6'\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    result = subprocess.run(
        [sys.executable, "-c", line],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: Elysium needs transformers {MINIMUM_TRANSFORMERS} or newer, found 4.57.6")


def test_the_packages_say_the_same():
    assert registration.MINIMUM_TRANSFORMERS == MINIMUM_TRANSFORMERS


def test_setup_says_the_same():
    (declared,) = re.findall(r'"transformers>=([\d.]+),<6"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    assert declared == MINIMUM_TRANSFORMERS
