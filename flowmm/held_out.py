"""What a small cache lost, by questions that no method has seen: asked of the full cache, replayed on the small one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowmm.answer import answer_all
from flowmm.context import ContextCache
from flowmm.hf.decoding import Decoder, end_tokens, placed
from flowmm.hf.loading import LoadedModel
from flowmm.hf.prompt import question_ids
from flowmm.hf.rows import padded_rows
from flowmm.observe.probes import names
from flowmm.observe.replay import Replay
from flowmm.records import Agreement, Generation, Part

# Worded as no method's probes are. About the whole, and about a name or number of the text.
WHOLE = ("What does it say?", "What can be seen?", "Which names are mentioned?", "Which numbers are mentioned?")
ABOUT = ("{item}?", "What about {item}?")
_ITEMS = 28
_LONGEST = 12  # tokens of an answer
_BATCH = 8
_SURE = 0.8  # probability from which on the full cache is sure of a token; others flip by chance
_TOP = 64  # tokens that the divergence is of; all others count as one more, which makes it no larger
_LOOKED_AT = 0.5  # attention of some head from which on a token is important


@dataclass(frozen=True)
class HeldOut:
    """Questions, and what the full cache makes of them; P tokens of answers."""

    rows: tuple[tuple[int, ...], ...]  # tokens of question and answer
    starts: tuple[int, ...]  # tokens of the question, by row
    top: Tensor  # [P, k] int64, the likeliest tokens
    log_probs: Tensor  # [P, k] float32 of these
    important: Tensor  # [T] bool, tokens of the context that are looked at


def held_out_questions(parts: Sequence[Part]) -> tuple[str, ...]:
    """Questions about the whole, and about names and numbers of the text."""
    about = [ABOUT[index % 2].format(item=name) for index, name in enumerate(names(text_of(parts), _ITEMS))]
    return (*WHOLE, *about)


def text_of(parts: Sequence[Part]) -> str:
    """All that was read as text."""
    return "\n".join(str(part.payload) for part in parts if part.kind == "text")


def ask_held_out(full: ContextCache, questions: Sequence[str], loaded: LoadedModel) -> HeldOut:
    """Let the full cache answer; greedily, so that its answers are its likeliest tokens."""
    cache = placed(full, loaded)
    answers = list(answer_all(cache, questions, loaded, Generation(max_new_tokens=_LONGEST, batch=_BATCH)))
    end = sorted(end_tokens(loaded))[:1]
    asked = [question_ids(one.question, loaded) for one in answers]
    said = [(*one.token_ids, *(end if one.finished == "stop" else ())) for one in answers]
    rows = tuple((*ids, *tokens) for ids, tokens in zip(asked, said, strict=True))
    starts = tuple(map(len, asked))
    watcher = Replay(cache.layers)
    best = [block.topk(min(_TOP, block.shape[1])) for block in _log_probs(cache, rows, starts, loaded, watcher)]
    important = torch.zeros(cache.num_tokens, dtype=torch.bool)
    for layer, received in zip(cache.layers, watcher.received(), strict=True):
        looked_at = (received >= _LOOKED_AT) & ~layer.protected & ~layer.padding
        important[layer.position[looked_at].long().cpu()] = True
    top, log_probs = torch.cat([one.indices for one in best]), torch.cat([one.values for one in best])
    return HeldOut(rows, starts, top, log_probs, important)


def agreement(held: HeldOut, small: ContextCache, loaded: LoadedModel) -> Agreement:
    """Replay the answers on a small cache, as it comes back from its file."""
    cache = placed(small, loaded)
    sure = held.log_probs[:, 0].exp() >= _SURE
    sure = sure if bool(sure.any()) else torch.ones_like(sure)
    done, same, apart = 0, 0, 0.0
    for block in _log_probs(cache, held.rows, held.starts, loaded):
        rows = slice(done, done + block.shape[0])
        same += int(((block.argmax(1) == held.top[rows, 0]) & sure[rows]).sum())
        apart += float(divergence(held.log_probs[rows], block.gather(1, held.top[rows])).sum())
        done = rows.stop
    gone = held.important.clone()
    for layer in small.layers:
        gone[layer.position[~layer.padding].long().cpu()] = False
    number = int(held.important.sum())
    shares = (same / int(sure.sum()), apart / done, number, int(gone.sum()) / max(1, number))
    return Agreement(len(held.rows), done, int(sure.sum()), *shares)


def divergence(full: Tensor, small: Tensor) -> Tensor:
    """``KL(full || small)`` in nats over the tokens given and all others as one.

    Args:
        full: ``[P, k]`` log-probabilities of k tokens.
        small: ``[P, k]`` those of the same tokens.

    Returns:
        ``[P]``; never more than over all tokens apart.
    """
    rest, other = (1 - some.exp().sum(1) for some in (full, small))
    least = torch.finfo(torch.float32).eps  # what rounding leaves of 1 - 1
    rest, other = rest.clamp_min(least), other.clamp_min(least)
    known = (full.exp() * (full - small)).sum(1) + rest * (rest / other).log()
    return known.clamp_min(0)


def _log_probs(
    cache: ContextCache,
    rows: Sequence[tuple[int, ...]],
    starts: Sequence[int],
    loaded: LoadedModel,
    watcher: Replay | None = None,
) -> Iterator[Tensor]:
    """``[p, V]`` float32 on the CPU: log-probabilities of the answers' tokens, some rows at a time, in order."""
    for begin in range(0, len(rows), _BATCH):
        batch, lengths = rows[begin : begin + _BATCH], starts[begin : begin + _BATCH]
        questions = [list(row[: start - 1]) for row, start in zip(batch, lengths, strict=True)]
        answers = [list(row[start - 1 : -1]) for row, start in zip(batch, lengths, strict=True)]
        decoder = Decoder(loaded, cache, len(batch), max(map(len, questions)) + max(map(len, answers)), watcher)
        decoder.feed(*padded_rows(questions))
        token_ids, real = padded_rows(answers)
        yield decoder.feed_columns(token_ids, real, token_ids.shape[1]).cpu()[real].log_softmax(-1)
