"""A model that says what a script tells it, through a real cache, real masks and the library's real `generate`.

Its language model writes token ids into the cache as keys, reads back what the mask lets it see, and asks the script
for the next token. So a decoder that loses, repeats or shows the wrong tokens gets other answers.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import torch
from torch import nn
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast

from modeling_elysium.outputs import CACHE_NAME

from .oracle import fitting_model

Script = Callable[[str, list[int]], int]  # question, answer so far -> next token


class _ScriptedLanguageModel(nn.Module):
    def __init__(self, processor, script: Script, vocab_size: int, width: int):
        super().__init__()
        self.processor, self.script, self.vocab_size = processor, script, vocab_size
        self.embed_tokens = nn.Embedding(vocab_size, width)
        self.embed_tokens.weight.data = torch.arange(float(vocab_size))[:, None].repeat(1, width)
        self.asked = 0  # calls
        self.end = self._ids("?ASSISTANT:")[-2:]

    def _ids(self, text):
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    def get_input_embeddings(self):
        return self.embed_tokens

    def forward(self, inputs_embeds, attention_mask=None, position_ids=None, **kwargs):
        self.asked += 1
        cache = kwargs[CACHE_NAME] if kwargs.get(CACHE_NAME) is not None else DynamicCache()
        states = inputs_embeds[:, None, :, :1]  # (B, 1 head, T, 1)
        positions = position_ids[:, None, :, None].to(states.dtype)
        keys, values = cache.update(states, positions, 0)
        ids, positions = keys[:, 0, :, 0].round().long(), values[:, 0, :, 0].round().long()
        seen = self._seen(attention_mask, *inputs_embeds.shape[:2], ids.shape[1])
        logits = torch.stack(
            [
                torch.stack([self._logits(row_ids, row_positions, visible) for visible in row_seen])
                for row_ids, row_positions, row_seen in zip(ids, positions, seen, strict=True)
            ]
        )
        return BaseModelOutputWithPast(last_hidden_state=logits, **{CACHE_NAME: cache})

    @staticmethod
    def _seen(mask, batch, queries, keys):
        """(B, T, L) True where a token is visible."""
        if mask is not None and mask.ndim == 4:
            return mask[:, 0] == 0
        seen = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)[None].expand(batch, -1, -1)
        return seen if mask is None else seen & mask[:, None, :].bool()

    def _logits(self, ids, positions, visible):
        history, positions = ids[visible], positions[visible]
        ends = (history[:-1] == self.end[0]) & (history[1:] == self.end[1])
        if not ends.any():  # inside the question: nobody reads this
            return torch.zeros(self.vocab_size)
        if not torch.equal(positions, torch.arange(len(positions))):
            assert positions[-1] == positions[-2], "positions count on"
            return torch.zeros(self.vocab_size)  # padding after a row
        start = int(ends.nonzero()[-1]) + 2
        image = max((history[:start] < 0).nonzero()[:, 0].tolist(), default=0)
        answer = history[start:].tolist()
        generator = torch.Generator().manual_seed(zlib.crc32(repr(answer).encode()))
        logits = torch.rand(self.vocab_size, generator=generator)
        question = self.processor.tokenizer.decode(history[image + 1 : start].tolist())
        logits[self.script(question, answer)] += 12.0
        return logits


def scripted_model(processor, script: Script, **overrides):
    """A tiny model around a script; frames have negative ids in the history."""
    model = fitting_model(processor, **overrides)
    width, vocab = model.config.text_config.hidden_size, model.config.text_config.vocab_size
    model.model.language_model = _ScriptedLanguageModel(processor, script, vocab, width)
    model.lm_head = nn.Identity()
    projector = model.model.multi_modal_projector
    projector.forward = lambda tokens: torch.full((*tokens.shape[:2], width), -5.0)
    return model


def saying(processor, text_of: Callable[[str], str]) -> Script:
    """The script that writes `text_of(question)`, token by token, whatever the answer holds so far, and ends."""

    targets: dict[str, list[int]] = {}  # a long text takes long to tokenize, and is asked for token by token

    def script(question: str, answer: Sequence[int]) -> int:
        text = text_of(question)
        if text not in targets:
            targets[text] = answer_ids(processor, text)
        target = targets[text]
        return target[len(answer)] if len(answer) < len(target) else processor.tokenizer.eos_token_id

    return script


def answer_ids(processor, text: str) -> list[int]:
    """Tokens of an answer after a prompt."""
    messages = processor.build_messages("chat", 0, question="?", answer=text)
    whole = processor.apply_chat_template(messages, tokenize=False)
    prompt = processor.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False)
    ids = [processor.tokenizer(part, add_special_tokens=False)["input_ids"] for part in (prompt, whole)]
    return ids[1][len(ids[0]) :]
