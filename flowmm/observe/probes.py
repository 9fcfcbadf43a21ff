"""Observe through questions about the context that the model answers, or not, and is then fed (probes, self-study)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from flowmm.context import ContextCache
from flowmm.hf.decoding import Decoder
from flowmm.hf.loading import LoadedModel
from flowmm.hf.prompt import question_ids
from flowmm.hf.rows import padded_rows
from flowmm.observe.reconstruct import Seen
from flowmm.observe.replay import Replay
from flowmm.observe.tail import drawn_evenly
from flowmm.observing import Probes
from flowmm.records import Answer

Ask = Callable[[Sequence[str], int], list[Answer]]  # questions, longest answer in tokens -> answers

_BATCH = 16
_STEP = 256  # tokens of a forward pass; bounds the masks, changes nothing
_LONGEST_ITEM = 80  # characters; what is longer is prose and no item
_WORD = re.compile(r"[^\W_]+(?:[-'\u2019.,/][^\W_]+)*")


def study(
    ask: Ask, settings: Probes, text: str = "", progress: Callable[[int, int], None] | None = None
) -> list[Answer]:
    """Let the model write about the context, and ask about items: those it lists, words of the text, and any things.

    Args:
        ask: answers questions over the full cache.
        settings: of the method.
        text: of the context, without its images.
        progress: called with questions done and questions known so far.

    Returns:
        The answers; of questions that are not to be answered, empty ones.
    """
    told = progress or (lambda _done, _total: None)
    asked = list(dict.fromkeys([*settings.requests, *settings.list_items]))
    told(0, len(asked))
    answers = ask(asked, settings.longest) if asked else []
    lists = [answer.text for answer in answers if answer.question in settings.list_items]
    listed = list(dict.fromkeys(item for text in lists for item in items(text)))[: settings.most_items]
    found = dict.fromkeys([*listed, *names(text, settings.words), *settings.things])
    about = [question.replace("{item}", item) for item in found for question in settings.about_item]
    told(len(asked), len(asked) + len(about))
    if not settings.longest_about:
        return answers + [Answer(question, "", (), "length", 0, 0) for question in about]
    return answers + (ask(about, settings.longest_about) if about else [])


@torch.no_grad()
def replayed(
    cache: ContextCache,
    answers: Sequence[Answer],
    loaded: LoadedModel,
    settings: Probes,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Seen:
    """Feed questions with their answers behind the full cache and see what they look at, each as if alone.

    Args:
        cache: the full cache, on the model's devices.
        answers: questions and the tokens of their answers.
        loaded: the model.
        settings: of the method.
        seed: of the draw of queries to keep.
        progress: called with answers done and answers there are.
    """
    rows = [question_ids(answer.question, loaded) + list(answer.token_ids) for answer in answers]
    rows.sort(key=len)  # rows of a batch are padded to its longest
    draw = drawn_evenly(sum(map(len, rows)), settings.queries, seed)
    watcher = Replay(cache.layers, draw=draw)
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        token_ids, real = padded_rows(batch)
        decoder = Decoder(loaded, cache, len(batch), token_ids.shape[1], watcher)
        for step in range(0, token_ids.shape[1], _STEP):
            decoder.feed(token_ids[:, step : step + _STEP], real[:, step : step + _STEP])
        if progress is not None:
            progress(start + len(batch), len(rows))
    return Seen(tuple(watcher.received()), (), tuple(watcher.queries(layer) for layer in range(len(cache.layers))))


def names(text: str, most: int) -> list[str]:
    """Names and numbers of a text, at most so many, from all over it.

    A name is a run of capitalised words, a number any word with a digit; scripts without capitals have numbers alone.
    """
    words = list(_WORD.finditer(text))
    plain = {word.group() for word in words if word.group()[0].islower()}  # "The" is no name where "the" stands too
    found: dict[str, None] = {}
    run, end = "", -1
    for word in words:
        piece = word.group()
        named = piece[0].isupper() and piece.lower() not in plain
        if run and not (named and text[end : word.start()] == " "):
            found[run], run = None, ""
        if named:
            run = f"{run} {piece}".strip()
        elif any(letter.isdigit() for letter in piece):
            found[piece] = None
        end = word.end()
    everything = list(found | ({run: None} if run else {}))
    number = min(most, len(everything))
    return [everything[index * len(everything) // number] for index in range(number)]


def items(text: str) -> list[str]:
    """The items of a list that a model wrote: JSON, or one a line (up to a colon), or separated by commas."""
    found = re.search(r"[\[{].*[\]}]", text, re.DOTALL)
    if found:
        try:
            return _clean(_leaves(json.loads(found.group())))
        except json.JSONDecodeError:
            pass
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) == 1:
        lines = re.split(r"[,;]", lines[0])
    return _clean(re.sub(r"^\s*(?:[-*\u2022]|\d+[.)])\s*", "", line).partition(":")[0] for line in lines)


def _leaves(value: Any) -> list[str]:
    """The names in a JSON value: the keys of objects, the strings of lists."""
    if isinstance(value, dict):
        nested = [leaf for one in value.values() if isinstance(one, (dict, list)) for leaf in _leaves(one)]
        return [*value, *nested]
    if isinstance(value, list):
        return [leaf for one in value for leaf in _leaves(one)]
    return [str(value)]


def _clean(found: Any) -> list[str]:
    stripped = (item.strip().strip("\"'`*").strip() for item in found)
    return list(dict.fromkeys(item for item in stripped if item and len(item) <= _LONGEST_ITEM))
