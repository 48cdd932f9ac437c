"""Law 1 and 2: who may import whom, and how the files that a checkpoint folder carries import."""

import re

import pytest

from .source import ROOT, carried_files, declared_requirements, guarded_nodes, imports, is_third_party, python_files

# Folder -> the folders of ours it may import. Data runs one way; train is on top and nothing imports it.
MAY_IMPORT = {
    "processing_elysium": set(),
    "modeling_elysium": set(),
    "dataset_scripts": {"processing_elysium"},
    "evaluate_metrics": set(),
    "train": {"dataset_scripts", "processing_elysium", "modeling_elysium", "evaluate_metrics"},
    "benchmarks": {"dataset_scripts", "processing_elysium", "modeling_elysium", "evaluate_metrics"},
    "space": {"processing_elysium", "modeling_elysium"},
    "examples": {"dataset_scripts", "processing_elysium", "modeling_elysium", "evaluate_metrics"},
}
# Registration and the command line are not carried, and join the two packages.
JOINTS = {
    "processing_elysium/__init__.py": {"modeling_elysium"},
    "modeling_elysium/__init__.py": {"processing_elysium"},
    "modeling_elysium/cli*.py": {"processing_elysium"},
    "modeling_elysium/convert_elysium_weights_to_hf.py": {"processing_elysium"},  # it writes the processor too
    # Runners put a model and a benchmark together; the metric folders below them stay self-contained.
    "evaluate_metrics/runners/*.py": {"processing_elysium", "modeling_elysium", "dataset_scripts"},
}
PACKAGE_OF = {"PIL": "pillow", "cv2": "opencv-python-headless", "yaml": "pyyaml", "sklearn": "scikit-learn"}
# What a machine that loads a checkpoint folder has in any case; anything else is optional there.
HUB_REQUIRED = {"torch", "transformers", "numpy", "PIL", "huggingface_hub", "tokenizers", "safetensors"}


@pytest.mark.parametrize("path", python_files(*MAY_IMPORT), ids=str)
def test_imports_run_one_way(path):
    allowed = {path.parts[0]} | MAY_IMPORT[path.parts[0]]
    for pattern, extra in JOINTS.items():
        if path.match(pattern):
            allowed |= extra
    ours = {m.split(".")[0] for _, m, level in imports(path) if level == 0} & (set(MAY_IMPORT) | {"tests"})
    assert ours <= allowed, f"{path} imports {sorted(ours - allowed)}; {path.parts[0]} may import {sorted(allowed)}"


@pytest.mark.parametrize("path", carried_files(), ids=str)
def test_carried_files_import_siblings_by_name(path):
    siblings = {p.stem for p in (ROOT / path).parent.glob("*.py")}
    for node, module, level in imports(path):
        own = module.split(".")[0] in ("modeling_elysium", "processing_elysium", "tracking_elysium")
        assert level or not own, f"{path}:{node.lineno}: write `from .{module.split('.')[-1]} import ...`"
        if level:
            assert level == 1 and "." not in module and module in siblings, (
                f"{path}:{node.lineno}: only `from .sibling import name` is carried into a checkpoint folder"
            )


@pytest.mark.parametrize("path", carried_files(), ids=str)
def test_carried_files_hide_no_import_in_text(path):
    # The Hub's loader finds relative imports by this pattern in the raw text, docstrings included.
    in_text = re.findall(r"^\s*from\s+\.(\S+)\s+import", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert set(in_text) == {m for _, m, level in imports(path) if level}


@pytest.mark.parametrize("path", carried_files(), ids=str)
def test_carried_files_guard_optional_imports(path):
    guarded = guarded_nodes(path)
    for node, module, level in imports(path):
        optional = level == 0 and is_third_party(module) and module.split(".")[0] not in HUB_REQUIRED
        assert not optional or node in guarded, f"{path}:{node.lineno}: import {module} in try/except ImportError"


def test_every_third_party_import_is_declared():
    declared = declared_requirements() | {"setuptools"}  # which builds the package, in pyproject.toml
    for path in python_files():
        for node, module, level in imports(path):
            if level == 0 and is_third_party(module):
                top = module.split(".")[0]
                name = PACKAGE_OF.get(top, top).lower().replace("_", "-")
                assert name in declared, f"{path}:{node.lineno}: {top} is not in setup.py"
