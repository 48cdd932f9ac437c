"""The README's example, as it stands, with the embedded checkpoint."""

import re

import pytest

from .source import ROOT


@pytest.mark.slow
def test_readme_example_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL).group(1)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert len(names["frames"]) == 64
    assert "xmin" in capsys.readouterr().out
