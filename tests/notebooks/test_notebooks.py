"""The notebooks: kept without outputs, and executed at small size from the first cell to the last."""

import ast
import os
from pathlib import Path

import nbformat
import pytest

from tests.house.source import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# In place of the cell tagged "parameters"; OUT is a temporary folder.
SMALL = {
    "track": 'video, box, words = "examples/sample.mp4", (158, 58, 216, 199), "the bottle"\n'
    'model, num_frames, out = "tests/fixtures/drawn_shapes", 4, "OUT"',
    "fine_tune": 'folder, model, steps, out = None, "tests/fixtures/drawn_shapes", 1, Path("OUT")',
    "evaluate": 'model, baselines, limit = "tests/fixtures/drawn_shapes", ["keep_first"], 2\nout = Path("OUT")',
    "build_a_dataset": 'num_videos, out = 4, Path("OUT")',
}


def named(path):
    return path.stem


def test_every_notebook_is_run():
    assert {path.stem for path in NOTEBOOKS} == set(SMALL)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebooks_are_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell for cell in code if cell.outputs or cell.execution_count is not None], "clear all outputs"
    for cell in code:
        ast.parse(cell.source)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert notebook.cells[0].source.startswith("# ")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_small_parameters_name_what_the_notebook_has(path):
    (cell,) = [cell for cell in nbformat.read(path, as_version=4).cells if cell.metadata.get("tags") == ["parameters"]]
    assert assigned(cell.source) == assigned(SMALL[path.stem])


def assigned(source):
    names = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
    return {node.id for node in names if isinstance(node.ctx, ast.Store)}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebooks_run_from_the_first_cell_to_the_last(path, tmp_path, monkeypatch):
    client = pytest.importorskip("nbclient").NotebookClient
    pytest.importorskip("ipykernel")
    if path.stem == "build_a_dataset":
        pytest.importorskip("spacy")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.metadata.get("tags") == ["parameters"]:
            cell.source = SMALL[path.stem].replace("OUT", str(tmp_path / "out"))
    before = sorted(os.listdir(ROOT))
    here = {"metadata": {"path": str(ROOT / "notebooks")}}
    client(notebook, timeout=1200, kernel_name="python3", resources=here).execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    shown = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    assert [out for out in shown if out.output_type == "execute_result"]
    assert sorted(os.listdir(ROOT)) == before and Path(tmp_path / "out").is_dir()
