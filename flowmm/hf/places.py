"""Where in a context's tokens some characters of a text, or a box of an image, went."""

from __future__ import annotations

import math

from flowmm.context import Modality, Piece
from flowmm.hf.loading import LoadedModel
from flowmm.hf.prompt import ANCHOR, encode, neutralised


def tokens_of_characters(text: str, start: int, end: int, loaded: LoadedModel) -> list[int] | None:
    """Tokens of a text part that hold any of its characters ``[start, end)``.

    Args:
        text: the part's, as it was read.
        start: first character.
        end: behind the last one.
        loaded: the model whose tokenizer is used.

    Returns:
        Indices into the tokens of the part; None where the tokenizer cannot tell, or control tokens that the text
        spells out were broken up.
    """
    stripped = text.strip() + "\n"
    if neutralised(stripped, loaded)[1]:
        return None
    left = len(text) - len(text.lstrip())
    spans = _character_spans(stripped, loaded)
    if spans is None:
        return None
    return [index for index, (first, last) in enumerate(spans) if first < end - left and last > start - left]


def tokens_of_box(piece: Piece, size: tuple[int, int], box: tuple[int, ...], loaded: LoadedModel) -> list[int] | None:
    """Tokens of an image part whose cell of the image touches a box.

    Args:
        piece: the part as the model takes it in.
        size: width and height that the box is measured in, of the whole image.
        box: left, top, right, bottom.
        loaded: the model.

    Returns:
        Indices into the tokens of the part; None where the image tokens are not one grid over the whole image, row by
        row, as far as the processor says (it tells ``image_grid_thw`` then).
    """
    grid = piece.pixels.get("image_grid_thw")
    merge = getattr(getattr(loaded.model.config, "vision_config", None), "spatial_merge_size", 1)
    visual = (piece.modality == Modality.VISUAL).nonzero()[:, 0].tolist()
    if grid is None or grid.shape[0] != 1:
        return None
    frames, rows, columns = int(grid[0, 0]), int(grid[0, 1]) // merge, int(grid[0, 2]) // merge
    if frames != 1 or rows * columns != len(visual):
        return None
    (left, top, right, bottom), (width, height) = box, size
    across = range(max(0, math.floor(left / width * columns)), min(columns, math.ceil(right / width * columns)))
    down = range(max(0, math.floor(top / height * rows)), min(rows, math.ceil(bottom / height * rows)))
    return [visual[row * columns + column] for row in down for column in across]


def _character_spans(text: str, loaded: LoadedModel) -> list[tuple[int, int]] | None:
    """First character and the one behind the last, of each token that :func:`encode` gives."""
    wanted = encode(loaded, text)
    for before in (ANCHOR, ""):
        found = loaded.tokenizer(before + text, add_special_tokens=False, return_offsets_mapping=True)
        skip = len(found.input_ids) - len(wanted)
        if skip >= 0 and list(found.input_ids[skip:]) == wanted:
            return [(first - len(before), last - len(before)) for first, last in found.offset_mapping[skip:]]
    return None
