"""Captions as tokens: Stanford's PTB tokenizer where Java and pycocoevalcap are there, a plain one elsewhere.

Both write lower case and drop punctuation, as caption evaluation does. They agree on plain captions and differ on
contractions, abbreviations and numbers with punctuation, so results say which one was used.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

JAR = "stanford-corenlp-3.4.1.jar"
_PUNCTUATION = "'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;"
PUNCTUATION = frozenset(_PUNCTUATION.split())
SECONDS = 600


def java_is_usable() -> bool:
    """Tell whether pycocoevalcap is installed and `java` is on the path."""
    return importlib.util.find_spec("pycocoevalcap") is not None and shutil.which("java") is not None


def tokenize_ptb(captions: Sequence[str]) -> list[str]:
    """Tokenize with Stanford's PTB tokenizer, as pycocoevalcap does, without writing into its folder.

    Args:
        captions: N captions; white space within one counts as one space.

    Returns:
        N captions, lower case, tokens with one space between, without punctuation.

    Raises:
        RuntimeError: Java failed; the message has its last words.
    """
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("pycocoevalcap is not installed: pip install pycocoevalcap, or ask for backend='python'.")
    folder = Path(next(iter(spec.submodule_search_locations))) / "tokenizer"
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", JAR, "edu.stanford.nlp.process.PTBTokenizer"]
    lines = "".join(f"{' '.join(text.split())}\n" for text in captions)
    done = subprocess.run(
        [*command, "-preserveLines", "-lowerCase"],
        input=lines.encode(),
        cwd=folder,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    tokenized = done.stdout.decode("utf-8", "replace").split("\n")[: len(captions)]
    if done.returncode or len(tokenized) != len(captions):
        last = done.stderr.decode("utf-8", "replace").strip()[-300:]
        raise RuntimeError(f"the PTB tokenizer (Java) failed with status {done.returncode}: {last}")
    return [" ".join(word for word in line.split() if word not in PUNCTUATION) for line in tokenized]


def tokenize_plain(captions: Sequence[str]) -> list[str]:
    """Tokenize without Java: apostrophes split as PTB does (`it 's`, `do n't`), punctuation dropped."""
    spaced = [re.sub(r"n't\b", " n't", text.lower().replace("’", "'")) for text in captions]
    spaced = [re.sub(r"(?<=\w)('(?:s|re|ve|ll|d|m)\b)", r" \1", text) for text in spaced]
    return [" ".join(re.findall(r"n't|'(?:s|re|ve|ll|d|m)\b|\w+(?:[-.,/]\w+)*", text)) for text in spaced]
