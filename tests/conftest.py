"""Settings of every test run: no network, no deadline for generated cases, threads that suit tiny models."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the internet is marked `network` and sets it back
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # `make test` has several processes, and tests start more

import pytest
import torch
from hypothesis import settings

settings.register_profile("elysium", deadline=None, print_blob=True)
settings.load_profile("elysium")
torch.set_num_threads(1)  # tiny models lose more to waking threads than they win


@pytest.fixture(autouse=True, scope="module")
def denormals():
    """Training flushes denormal numbers to zero, for its whole process; the next module's tests count on them."""
    yield
    torch.set_flush_denormal(False)
