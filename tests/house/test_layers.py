"""Law 1 and 2: who may import whom, what a checkpoint folder carries, and what an import costs.

One test per law; each lists all offenders.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .source import (
    ROOT,
    SHIPPED,
    carried_files,
    closure,
    declared_requirements,
    guarded_nodes,
    imports,
    is_carried,
    is_third_party,
    python_files,
)

ALL_SHIPPED = set(SHIPPED)
# Folder -> the folders of ours it may import. Data runs one way; train is on top and nothing imports it.
MAY_IMPORT = {
    "processing_elysium": set(),
    "modeling_elysium": set(),
    "tracking_elysium": set(),
    "dataset_scripts": {"processing_elysium"},
    "evaluate_metrics": set(),
    "train": {"dataset_scripts", "evaluate_metrics", *ALL_SHIPPED},
    "benchmarks": {"dataset_scripts", "evaluate_metrics", "train", *ALL_SHIPPED},
    "space": ALL_SHIPPED,
    "scripts": {"dataset_scripts", "evaluate_metrics", "train", *ALL_SHIPPED},
    "fast_boxes": set(),  # a folder for the Hub, for models of others
    "examples": {"dataset_scripts", "evaluate_metrics", *ALL_SHIPPED},
}
# Files that no checkpoint carries: registration, conversion and the command line join packages, along the flow.
JOINTS = {
    "modeling_elysium/__init__.py": {"processing_elysium"},
    "modeling_elysium/convert_elysium_weights_to_hf.py": {"processing_elysium", "tracking_elysium"},  # writes it all
    "tracking_elysium/__init__.py": {"processing_elysium", "modeling_elysium"},
    "tracking_elysium/cli/*.py": {"processing_elysium", "modeling_elysium"},
    # Runners put a model and a benchmark together; the metric folders below them stay self-contained.
    "evaluate_metrics/runners/*.py": {"dataset_scripts", *ALL_SHIPPED},
    "evaluate_metrics/readers/*.py": {"dataset_scripts", "processing_elysium"},
    "evaluate_metrics/baselines/*.py": {"dataset_scripts", "processing_elysium"},
    "evaluate_metrics/lmms_tasks/*.py": {"processing_elysium"},
    # Backends and annotation servers load a tracker of ours as they load any other.
    "dataset_scripts/construction/backends/*.py": ALL_SHIPPED,
    "dataset_scripts/annotate/*.py": ALL_SHIPPED,
}
ENTRANCES = {  # the file that the Hub's loader starts from -> how many files it may need
    "processing_elysium/processing_elysium.py": 12,
    "modeling_elysium/modeling_elysium.py": 9,
    "tracking_elysium/pipeline_video_tracking.py": 33,  # drawing and masks among them
}
PACKAGE_OF = {
    "scenedetect": "scenedetect-headless",
    "PIL": "pillow",
    "cv2": "opencv-contrib-python-headless",
    "yaml": "pyyaml",
    "sklearn": "scikit-learn",
}
# What a machine that loads a checkpoint folder has in any case; anything else is optional there.
HUB_REQUIRED = {"torch", "transformers", "numpy", "PIL", "huggingface_hub", "tokenizers", "safetensors"}
MAX_IMPORT_SECONDS = 0.5
MAX_HELP_SECONDS = 1.0


def test_imports_run_one_way():
    offenders = []
    for path in python_files(*MAY_IMPORT):
        allowed = {path.parts[0]} | MAY_IMPORT[path.parts[0]]
        for pattern, extra in JOINTS.items():
            if path.match(pattern):
                allowed |= extra
        ours = {m.split(".")[0] for _, m, level in imports(path) if level == 0} & (set(MAY_IMPORT) | {"tests"})
        offenders += [f"{path} imports {name}" for name in sorted(ours - allowed)]
    assert not offenders, offenders


def module_imports(path: Path) -> set[Path]:
    """Files of ours that a file imports when it is itself imported; what functions import comes later."""
    found = set()
    inner = {n.lineno for n, _, _ in imports(path)} - {n.lineno for n, _, _ in imports(path) if n.col_offset == 0}
    for node, module, level in imports(path):
        if node.lineno in inner:
            continue
        parts = list(path.parent.parts[: len(path.parent.parts) - level + 1]) if level else []
        target = Path(*parts, *module.split(".")) if module else Path(*parts)
        for candidate in (target.with_suffix(".py"), target / "__init__.py"):
            if (ROOT / candidate).is_file():
                found.add(candidate)
    return found


def test_no_circles():
    graph = {path: module_imports(path) for path in python_files() if path.parts[0] != "tests"}
    done: set[Path] = set()

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, " -> ".join(map(str, (*trail[trail.index(path) :], path)))
        if path not in done:
            for needed in graph.get(path, ()):
                visit(needed, (*trail, path))
            done.add(path)

    for path in graph:
        visit(path, ())


def test_entrances_need_few_files_and_all_carried_files_are_needed():
    needed = set()
    for name, most in ENTRANCES.items():
        files = closure(Path(name))
        assert len(files) <= most, f"{name} needs {len(files)} files: {sorted(map(str, files))}"
        assert not [str(path) for path in files if not is_carried(path)]
        needed |= files
    assert needed == set(carried_files()), sorted(map(str, needed ^ set(carried_files())))
    names = [path.name for path in needed]
    assert len(names) == len(set(names)), "a checkpoint folder is flat: carried files have different names"


def test_carried_files_import_siblings_by_name():
    offenders = []
    for path in carried_files():
        siblings = {p.stem for p in (ROOT / path).parent.glob("*.py")}
        for node, module, level in imports(path):
            if level == 0 and module.split(".")[0] in SHIPPED:
                offenders.append(f"{path}:{node.lineno}: write `from .{module.split('.')[-1]} import ...`")
            if level and not (level == 1 and "." not in module and module in siblings):
                offenders.append(f"{path}:{node.lineno}: only `from .sibling import name` is carried")
    assert not offenders, offenders


def test_carried_files_hide_no_import_in_text():
    # The Hub's loader finds relative imports by this pattern in the raw text, docstrings included.
    offenders = []
    for path in carried_files():
        text = (ROOT / path).read_text(encoding="utf-8")
        in_text = set(re.findall(r"^\s*from\s+\.(\S+)\s+import", text, re.MULTILINE))
        if in_text != {m for _, m, level in imports(path) if level}:
            offenders.append(str(path))
    assert not offenders, offenders


def test_carried_files_guard_optional_imports():
    offenders = []
    for path in carried_files():
        guarded = guarded_nodes(path)
        for node, module, level in imports(path):
            optional = level == 0 and is_third_party(module) and module.split(".")[0] not in HUB_REQUIRED
            if optional and node not in guarded:
                offenders.append(f"{path}:{node.lineno}: import {module} in try/except ImportError")
    assert not offenders, offenders


def test_every_third_party_import_is_declared():
    declared = declared_requirements() | {"setuptools"}  # which builds the package, in pyproject.toml
    offenders = []
    for path in python_files():
        for node, module, level in imports(path):
            if level == 0 and is_third_party(module):
                top = module.split(".")[0]
                if PACKAGE_OF.get(top, top).lower().replace("_", "-") not in declared:
                    offenders.append(f"{path}:{node.lineno}: {top} is not in setup.py")
    assert not offenders, offenders


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_imports_load_no_more_than_they_need():
    for line, forbidden in (
        ("import processing_elysium.boxes", ("modeling_elysium", "tracking_elysium", "torch", "transformers")),
        ("import tracking_elysium", ("torch", "transformers")),
        ("import modeling_elysium.modeling_elysium", ("tracking_elysium", "av", "decord")),
        ("from tracking_elysium.cli import make_parser; make_parser().format_help()", ("torch", "transformers")),
    ):
        loaded = run_python(f"{line}\nimport sys\nprint([name for name in {forbidden} if name in sys.modules])")
        assert loaded.strip() == "[]", f"{line} loads {loaded}"


@pytest.mark.parametrize("package", SHIPPED)
def test_import_is_cheap(package):
    timed = (
        f"import torch, transformers, time; t = time.process_time(); import {package}; print(time.process_time() - t)"
    )
    assert float(run_python(timed)) < MAX_IMPORT_SECONDS


def test_help_is_quick():
    timed = "import time; from tracking_elysium.cli import main; main(['--help']); print(time.process_time())"
    assert float(run_python(timed).splitlines()[-1]) < MAX_HELP_SECONDS  # seconds of work, whatever else runs


LOOK_UPS = """
import warnings
{imports}
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, pipeline
from transformers import AutoModel, AutoModelForImageTextToText
kinds = [AutoConfig, AutoModel, AutoModelForImageTextToText, AutoImageProcessor, AutoProcessor]
print(*[type(kind.from_pretrained("elysium")).__name__ for kind in kinds])
print(type(pipeline("video-tracking", model="elysium", device="cpu")).__module__)
"""


@pytest.mark.parametrize(
    "lines",
    [
        "import tracking_elysium",
        "import modeling_elysium",
        "import processing_elysium",
        "from transformers import pipeline, AutoModel, AutoProcessor; import tracking_elysium",
        "import tracking_elysium; from transformers import GenerationMixin",
        "from modeling_elysium.configuration_elysium import ElysiumConfig",
    ],
)
def test_one_import_registers_all(lines):
    classes, pipeline_module = run_python(LOOK_UPS.format(imports=lines)).splitlines()
    wanted = "ElysiumConfig ElysiumModel ElysiumForConditionalGeneration ElysiumImageProcessor ElysiumProcessor"
    assert classes == wanted
    assert pipeline_module == "tracking_elysium.pipeline_video_tracking"
