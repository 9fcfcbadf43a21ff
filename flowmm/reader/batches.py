"""Turns drawn contexts into arrays: one right-padded batch, which causal attention needs no mask for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from flowmm.reader.contexts import Asked, Context, draw_context
from flowmm.reader.layouts import Layout
from flowmm.reader.pages import CELL
from flowmm.reader.tokens import END

KEY_LETTERS = 12
NAME_LETTERS = 2 * KEY_LETTERS  # of a key, and of the column that a value stands in
VALUE_LETTERS = 8
LETTER_CLASSES = 28  # none, a-z, space
VALUE_CLASSES = 37  # none, A-Z, 0-9

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Look:
    """What places should look at: ``source`` ``[B, Q]``, -1 where there are fewer, and ``target`` ``[B, Q, L]``."""

    source: Ints
    target: NDArray[np.bool_]


@dataclass(frozen=True)
class Batch:
    """``B`` contexts of ``L`` tokens; "flat" indices count tokens of the batch as ``b * L + place``.

    Attributes:
        ids: ``[B, L]`` token ids.
        positions: ``[3, B, L]`` time, height and width positions.
        pixels: ``[P, height, width, 3]`` page images, context by context; P may be 0.
        labels: ``[P, cells, LINES, SLOTS]`` characters in each cell.
        pads: ``[P * cells]`` flat indices of the image tokens.
        predicts: ``[A]`` flat indices of the tokens that predict an answer token.
        targets: ``[A]`` those answer tokens.
        question: ``[A]`` the question that an answer token belongs to.
        asked: the questions, context by context.
        named: ``[N]`` flat indices of tokens from which a key should be known, image cells last.
        names: ``[N, NAME_LETTERS]`` the letters of that key and of its column.
        cells: ``[M]`` indices into ``pads`` of the cells that show a value.
        values: ``[M, VALUE_LETTERS]`` the letters of that value.
        looks: by what is looked for: the ``value`` whose character a place predicts, or the statement that leads to it;
            what comes ``then``, the value, from such a statement on; the header ``above`` a cell of a table that
            shows a value; the facts or badges that a ``count`` counts, and the first token.
        led: ``[N']`` flat indices of the places that a statement leads on from: the key it leads to should be known.
        led_to: ``[N', KEY_LETTERS]`` the letters of that key.
        lengths: ``[B]`` tokens before the first question.
    """

    ids: Ints
    positions: Ints
    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    pads: Ints
    predicts: Ints
    targets: Ints
    question: Ints
    asked: tuple[Asked, ...]
    named: Ints
    names: Ints
    cells: Ints
    values: Ints
    looks: Mapping[str, Look]
    led: Ints
    led_to: Ints
    lengths: Ints


def key_letters(key: str) -> list[int]:
    """The letters of a key as classes, cut or filled up to ``KEY_LETTERS``."""
    letters = [27 if c == " " else ord(c) - 96 for c in key.lower()[:KEY_LETTERS]]
    return letters + [0] * (KEY_LETTERS - len(letters))


def name_letters(key: str, column: str) -> list[int]:
    """The letters of a key and of the column of its value; two cells of a table's row differ in nothing else."""
    return key_letters(key) + key_letters(column)


def value_letters(value: str) -> list[int]:
    """The letters and digits of a value as classes, filled up to ``VALUE_LETTERS``."""
    letters = [ord(c) - 21 if c.isdigit() else ord(c) - 64 for c in value[:VALUE_LETTERS]]
    return letters + [0] * (VALUE_LETTERS - len(letters))


def rope_positions(context: Context, rows: int, columns: int) -> Ints:
    """``[3, tokens]`` positions as Qwen2-VL counts them: a page advances by its longer side only."""
    result = np.empty((3, len(context.ids)), np.int64)
    place = position = 0
    for start in (*context.page_starts, len(context.ids)):
        result[:, place:start] = np.arange(position, position + start - place)
        position += start - place
        if start == len(context.ids):
            break
        place = start + rows * columns
        result[0, start:place] = position
        result[1, start:place] = position + np.repeat(np.arange(rows), columns)
        result[2, start:place] = position + np.tile(np.arange(columns), rows)
        position += max(rows, columns)
    return result


def draw_batch(rng: Random, layout: Layout, number: int, *, held_out: bool = False) -> Batch:
    """Draw ``number`` contexts of one layout."""
    return collate([draw_context(rng, layout, held_out=held_out) for _ in range(number)], layout)


def _answers(contexts: Sequence[Context], width: int) -> tuple[Ints, Ints, Ints]:
    predicts, targets, question = [], [], []
    count = 0
    for b, context in enumerate(contexts):
        for asked in context.asked:
            span = range(asked.first, asked.last + 1)
            predicts += [b * width + place - 1 for place in span]
            targets += [context.ids[place] for place in span]
            question += [count] * len(span)
            count += 1
    return np.array(predicts), np.array(targets), np.array(question)


def _names(contexts: Sequence[Context], width: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Where keys should be known: value characters in text, answers, then value cells of pages."""
    text, cells = [], []
    for b, context in enumerate(contexts):
        for asked in context.asked:
            letters = name_letters(asked.key, asked.column)
            if asked.key:
                text += [(b * width + p - 1, letters) for p in range(asked.first, asked.last)]
            text += [(b * width + p, letters) for p in asked.hop]
        for fact, page, places in zip(context.facts, context.on_page, context.places, strict=True):
            letters, value = name_letters(fact.key, fact.column), value_letters(fact.value)
            if page:
                cells += [(b * width + p, letters, value) for p in dict.fromkeys(places) if p >= 0]
            else:
                text += [(b * width + p, letters) for p in places]
    named = np.array([flat for flat, _ in text] + [flat for flat, _, _ in cells])
    names = np.array([letters for _, letters in text] + [letters for _, letters, _ in cells])
    values = np.array([value for _, _, value in cells]).reshape(-1, VALUE_LETTERS)
    return named, names, np.array([flat for flat, _, _ in cells], np.int64), values


_At = tuple[int, Sequence[int]]  # a place, and the tokens that it should look at


def _looks(context: Context) -> dict[str, list[_At]]:
    looks: dict[str, list[_At]] = {"value": [], "then": [], "above": [], "count": []}
    for asked in context.asked:
        if asked.counted:
            firsts = [place for fact in asked.counted if (place := context.places[fact][0]) >= 0]
            looks["count"] += [(asked.first - 1 + i, (0, *firsts)) for i in range(len(asked.answer))]
        if asked.fact is None:
            continue
        for i, place in enumerate(context.places[asked.fact]):
            if place >= 0:
                value = (asked.first - 1 + i, (place,))
                looks["value"].append((value[0], asked.hop) if asked.hop else value)
                looks["then"] += [value] if asked.hop else []
    for head, places in zip(context.heads, context.places, strict=True):
        if head:
            looks["above"] += [(place, head) for place in dict.fromkeys(places) if place >= 0]
    return looks


def _led(contexts: Sequence[Context], width: int) -> tuple[Ints, Ints]:
    found = [
        (b * width + place - 1, key_letters(context.facts[asked.fact].key))
        for b, context in enumerate(contexts)
        for asked in context.asked
        if asked.hop and asked.fact is not None
        for place in range(asked.first, asked.last)
    ]
    letters = np.array([letters for _, letters in found], np.int64)
    return np.array([place for place, _ in found], np.int64), letters.reshape(-1, KEY_LETTERS)


def _marked(looks: Sequence[Sequence[_At]], width: int) -> Look:
    most = max(len(row) for row in looks)
    source = np.full((len(looks), most), -1, np.int64)
    target = np.zeros((len(looks), most, width), np.bool_)
    for b, row in enumerate(looks):
        for q, (place, at) in enumerate(row):
            source[b, q] = place
            target[b, q, list(at)] = True
    return Look(source, target)


def collate(contexts: Sequence[Context], layout: Layout) -> Batch:
    """Pad contexts of one layout to a batch."""
    width = max(len(context.ids) for context in contexts)
    ids = np.full((len(contexts), width), END, np.int64)
    positions = np.zeros((3, len(contexts), width), np.int64)
    for b, context in enumerate(contexts):
        ids[b, : len(context.ids)] = context.ids
        positions[:, b, : len(context.ids)] = rope_positions(context, layout.rows, layout.columns)
    size = layout.rows * layout.columns
    starts = [b * width + s for b, context in enumerate(contexts) for s in context.page_starts]
    pads = (np.array(starts, np.int64)[:, None] + np.arange(size)).reshape(-1)
    pages = [page for context in contexts for page in context.pages]
    shape = (0, layout.rows * CELL, layout.columns * CELL, 3)
    predicts, targets, question = _answers(contexts, width)
    named, names, cells, values = _names(contexts, width)
    looks = [_looks(context) for context in contexts]
    led, led_to = _led(contexts, width)
    return Batch(
        ids=ids,
        positions=positions,
        pixels=np.stack([p.pixels for p in pages]) if pages else np.zeros(shape, np.uint8),
        labels=np.stack([p.labels.reshape(size, *p.labels.shape[2:]) for p in pages])
        if pages
        else np.zeros((0, 0, 0, 0), np.uint8),
        pads=pads,
        predicts=predicts,
        targets=targets,
        question=question,
        asked=tuple(asked for context in contexts for asked in context.asked),
        named=named,
        names=names,
        cells=np.searchsorted(pads, cells),
        values=values,
        looks={name: _marked([look[name] for look in looks], width) for name in looks[0]},
        led=led,
        led_to=led_to,
        lengths=np.array([context.length for context in contexts]),
    )
