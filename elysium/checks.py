"""Checks of option values: the error names the option, what was given and what is allowed."""

from __future__ import annotations

from typing import Any


def check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of the allowed ones."""
    if value not in allowed:
        raise ValueError(f"`{name}`={value!r} is unknown; use one of {', '.join(map(repr, allowed))}.")


def check_switch(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}`={value!r} is unknown; use True or False.")


def check_count(name: str, value: Any, optional: bool = False) -> None:
    """Raise ValueError unless `value` is a whole number from 1 on, or None where that is allowed."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}`={value!r} must be a whole number from 1 on.")
