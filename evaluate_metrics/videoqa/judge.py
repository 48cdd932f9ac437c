"""Two judges behind one protocol: an OpenAI-compatible address, and a local model of transformers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Protocol


class JudgeUnavailableError(Exception):
    """No reply; `reason` is `rate_limited`, `down` or `refused`, and only the first two are worth a retry."""

    def __init__(self, reason: str, detail: str, retry_after_s: float | None = None):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.retry_after_s = reason, retry_after_s


class Judge(Protocol):
    """What judges: `name` tells judges apart in the cache; a call replies or raises `JudgeUnavailableError`."""

    name: str

    def __call__(self, messages: list[dict[str, str]]) -> str:
        """Reply to a chat of a system and a user message."""
        ...


class OpenAICompatibleJudge:
    """A chat model behind an OpenAI-compatible address (OpenAI, vLLM, llama.cpp, Ollama, ...).

    Args:
        base_url: Address up to `/v1`, such as `http://localhost:8000/v1`.
        model: Name of the model there.
        api_key: Sent as a bearer token; None: none is sent. It is never written anywhere.
        timeout_s: Seconds to wait for one reply.
        max_tokens: Longest reply.
    """

    def __init__(
        self, base_url: str, model: str, api_key: str | None = None, timeout_s: float = 60.0, max_tokens: int = 64
    ):
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url={base_url!r} must start with http:// or https://, and end before /chat.")
        self.url, self.model, self.timeout_s = base_url.rstrip("/") + "/chat/completions", model, timeout_s
        self.max_tokens, self._api_key = max_tokens, api_key
        self.name = f"{base_url.rstrip('/')} {model}"

    def __call__(self, messages: list[dict[str, str]]) -> str:
        """Ask once; see `Judge`."""
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": self.max_tokens}
        headers = {"Content-Type": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                return str(json.load(response)["choices"][0]["message"]["content"] or "")
        except urllib.error.HTTPError as error:
            detail = f"{self.url} answered {error.code}"
            if error.code == 429:
                raise JudgeUnavailableError(
                    "rate_limited", detail, _seconds(error.headers.get("Retry-After"))
                ) from None
            raise JudgeUnavailableError("down" if error.code >= 500 else "refused", detail) from None
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise JudgeUnavailableError("down", f"{self.url}: {type(error).__name__}: {error}") from None


class TransformersJudge:
    """A local chat model of transformers; one reply at a time, greedy.

    Args:
        generator: A `text-generation` pipeline whose tokenizer has a chat template.
        name: Tells judges apart in the cache, such as the model's name and revision.
        max_new_tokens: Longest reply.
    """

    def __init__(self, generator: Callable[..., Any], name: str, max_new_tokens: int = 64):
        self.generator, self.name, self.max_new_tokens = generator, name, max_new_tokens

    def __call__(self, messages: list[dict[str, str]]) -> str:
        """Ask once; see `Judge`."""
        replies = self.generator(messages, max_new_tokens=self.max_new_tokens, do_sample=False, return_full_text=False)
        return str(replies[0]["generated_text"])


def _seconds(header: str | None) -> float | None:
    """Read Retry-After where it is a number of seconds; a date counts as not said."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None
