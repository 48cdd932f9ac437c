"""Run the common tests of transformers on our classes.

    python -m tests.external.run_common_tests [-k WORDS] [--sdist FILE] [--tests FOLDER]

The wheel of transformers holds no tests; its source distribution holds the mixins. It is downloaded, unpacked in a
temporary folder and gone afterwards; nothing of it is kept here. The mixin for generation is in the project's own
repository only: with `--tests` naming the `tests` folder of a clone it takes part, else it is left out.

`docs/common_tests.md` lists the tests that fail, with the reason. Anything else that fails, and anything listed that
passes, makes the exit code 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import transformers

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "common_tests.md"
CASES = ("common_model.py", "common_processing.py")
# What the mixins import and the source distribution lacks: module -> text.
STUBS = {
    "transformers_common/exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "transformers_common/generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "transformers_common/utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
    "utils/fetch_hub_objects_for_ci.py": "def url_to_local_path(url, return_url_if_not_found=True):\n    return url\n",
}


def main() -> int:
    """Download, run, compare with the page; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", dest="words", help="passed on to pytest; listed tests that do not run are not missed")
    parser.add_argument("--sdist", type=Path, help="a source distribution that is here already")
    parser.add_argument("--tests", type=Path, help="`tests` of a clone of transformers, in place of the distribution")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="common-tests-") as scratch:
        folder = Path(scratch)
        if args.tests:
            shutil.copytree(args.tests, folder / "transformers_common")
        else:
            unpack(args.sdist or download(folder), folder)
        write_stubs(folder)
        outcomes = run(folder, args.words)
    return report(outcomes, partial=args.words is not None)


def download(folder: Path) -> Path:
    """The source distribution of the installed version, through pip."""
    wanted = ["--no-deps", "--no-binary", "transformers", f"transformers=={transformers.__version__}"]
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "-d", str(folder), *wanted], check=True)
    return next(folder.glob("transformers-*.tar.gz"))


def unpack(archive: Path, folder: Path) -> None:
    """The files directly in `tests/`, as the package `transformers_common`."""
    target = folder / "transformers_common"
    target.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            if member.isfile() and re.fullmatch(r"transformers-[^/]+/tests/[^/]+\.py", member.name):
                (target / Path(member.name).name).write_bytes(tar.extractfile(member).read())


def write_stubs(folder: Path) -> None:
    """What is missing beside the mixins, and the package files; what is there stays."""
    for name, text in STUBS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(text, encoding="utf-8")
    for package in (folder / "transformers_common", *(folder / "transformers_common").iterdir()):
        if package.is_dir():
            (package / "__init__.py").touch()


def run(folder: Path, words: str | None) -> dict[str, tuple[str, str]]:
    """Test -> (passed, failed or skipped; message)."""
    results = folder / "results.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={folder}", "-p", "no:cacheprovider"]
    command += ["--no-header", "--tb=short", f"--junitxml={results}", *(str(HERE / name) for name in CASES)]
    command += ["-k", words] if words else []
    path = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    subprocess.run(command, cwd=folder, env=environment, check=False)
    outcomes = {}
    for case in ElementTree.parse(results).iter("testcase"):
        name = f"{case.get('classname', '').rsplit('.', 1)[-1]}::{case.get('name')}"
        kinds = {child.tag: child.get("message", "") for child in case}
        failed = next((kinds[kind] for kind in ("failure", "error") if kind in kinds), None)
        if failed is not None:
            outcomes[name] = ("failed", " ".join(failed.split())[:160])
        else:
            outcomes[name] = ("skipped", kinds["skipped"]) if "skipped" in kinds else ("passed", "")
    return outcomes


def report(outcomes: dict[str, tuple[str, str]], partial: bool) -> int:
    """Print counts and every failure; returns the exit code."""
    known = set(re.findall(r"^\| `(\w+::[^`]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    failed = {name: message for name, (outcome, message) in outcomes.items() if outcome == "failed"}
    mended = {name for name in known - set(failed) if name in outcomes or not partial}
    for name, message in sorted(failed.items()):
        print(f"{'known' if name in known else 'NEW'}: {name}: {message}")
    for name in sorted(mended):
        print(f"listed, but does not fail: {name}")
    counts = [sum(outcome == kind for outcome, _ in outcomes.values()) for kind in ("passed", "failed", "skipped")]
    print("transformers {}: {} passed, {} failed, {} skipped".format(transformers.__version__, *counts))
    return int(bool(set(failed) - known or mended or not outcomes))


if __name__ == "__main__":
    sys.exit(main())
