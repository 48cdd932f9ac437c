"""The versions of transformers that this code works with, checked when it is imported.

The first file that the others import, so that an older library gives this message and not the name that it lacks.
"""

import re

import transformers

# Found by running the tests: what older versions lack is in docs/architecture.md. setup.py says the same.
MINIMUM_TRANSFORMERS = "5.23"


def check_transformers(found: str) -> None:
    """Compare a version of transformers with the lowest that works.

    Args:
        found: version, such as `"5.23.0"` or `"5.24.0.dev0"`.

    Raises:
        ImportError: it is too old; names it and what to install.
    """
    major, minor = (re.findall(r"\d+", found) + ["0", "0"])[:2]
    lowest = tuple(int(number) for number in MINIMUM_TRANSFORMERS.split("."))
    if (int(major), int(minor)) < lowest:
        raise ImportError(
            f"Elysium needs transformers {MINIMUM_TRANSFORMERS} or newer, found {found}: "
            f'pip install "transformers>={MINIMUM_TRANSFORMERS},<6"'
        )


check_transformers(transformers.__version__)
