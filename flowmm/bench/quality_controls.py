"""The controls that read a context anew: without it, with one of its modalities, with smaller images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from flowmm.bench.quality_rows import Key
from flowmm.records import Part

if TYPE_CHECKING:
    from PIL.Image import Image

    from flowmm.hf.loading import LoadedModel

FULL, QUANTISED = "full", "quantise_only"  # these two need the plain reading
_NO_CONTEXT, _TEXT, _IMAGES, _SMALLER = "no_context", "text_only", "images_only", "downscaled"
_TRIES = 12  # of a smaller image
_LEAST = 28 * 28  # pixels of an image; what is smaller shows nothing


def control_keys(keep: Sequence[float], own: str, stored: Sequence[str]) -> list[Key]:
    """All controls of a run.

    Args:
        keep: shares that methods keep; images are shrunk to the same.
        own: the precision that the model computes in.
        stored: the precisions that files may have.
    """
    controls = [Key("control", name, None, own) for name in (FULL, _NO_CONTEXT, _TEXT, _IMAGES)]
    controls += [Key("control", QUANTISED, None, name) for name in stored if name != own]
    return controls + [Key("control", _SMALLER, share, own) for share in keep]


def control_parts(key: Key, parts: Sequence[Part], loaded: LoadedModel) -> list[Part]:
    """What is read of a context for a control."""
    if key.name == _NO_CONTEXT:
        return []
    if key.name == _SMALLER:
        return [_smaller(part, key.keep or 1.0, loaded) if part.kind == "image" else part for part in parts]
    wanted = {_TEXT: "text", _IMAGES: "image"}.get(key.name)
    return [part for part in parts if wanted in (None, part.kind)]


def _smaller(part: Part, keep: float, loaded: LoadedModel) -> Part:
    """An image with at most ``keep`` of its tokens, if the model can have it so small; otherwise as few as it can."""
    from flowmm.inputs.pixels import shrink

    image: Image = part.payload  # type: ignore[assignment]
    full = _visual_tokens(part, loaded)
    target, budget = max(1, round(keep * full)), image.width * image.height * keep
    best, fewest = part, full
    for _ in range(_TRIES):
        small = replace(part, payload=shrink(image, max(_LEAST, int(budget))))
        tokens = _visual_tokens(small, loaded)
        if tokens < fewest:
            best, fewest = small, tokens
        if tokens <= target or budget <= _LEAST:
            break
        budget *= min(0.95, target / tokens)
    return best


def _visual_tokens(part: Part, loaded: LoadedModel) -> int:
    from flowmm.context import Modality
    from flowmm.hf.prompt import context_prompt

    return int((context_prompt([part], loaded).modality == Modality.VISUAL).sum())
