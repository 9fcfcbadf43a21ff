"""From parts to the tokens of a context, and from a question to the tokens that follow it.

The chat template is rendered once around two markers; what it writes before the context, for an image, and after the
question is then known as text. Each part is tokenised by itself, so that its span is exact and the boundary between
context and question cannot move: the tokens of both together are the tokens of one after the other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowmm.context import Modality, Piece, Prompt
from flowmm.errors import UnsupportedModelError, UsageError
from flowmm.hf.loading import LoadedModel
from flowmm.records import Part, Span

_CONTEXT, _QUESTION = "FLOWMM-CONTEXT-ENDS-HERE", "FLOWMM-QUESTION-GOES-HERE"
ANCHOR = "\n"  # what the context ends with; segments are tokenised behind it, as they will stand in the whole


@dataclass(frozen=True)
class Frame:
    """What the chat template writes around context and question."""

    before_text: str  # when the first part is text
    before_image: str
    image: str  # one image, before the processor expands it; empty for text-only models
    after_question: str


def frame_of(loaded: LoadedModel, system: str | None = None) -> Frame:
    """Render the model's chat template around markers.

    Raises:
        UnsupportedModelError: the template rewrites or drops what it is given.
        UsageError: it takes no system message.
    """
    before_text, after = _render(loaded, system, with_image=False)
    if loaded.processor is None:
        return Frame(before_text, before_text, "", after)
    with_image, _ = _render(loaded, system, with_image=True)
    common = 0
    while common < min(len(before_text), len(with_image)) and before_text[common] == with_image[common]:
        common += 1
    return Frame(before_text, with_image[:common], with_image[common:], after)


def context_prompt(
    parts: Sequence[Part],
    loaded: LoadedModel,
    *,
    system: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    notice: Callable[[str], None] | None = None,
) -> Prompt:
    """Tokenise a context.

    Args:
        parts: in their order in the context; at least one.
        loaded: the model whose template, tokenizer and processor are used.
        system: a system message.
        progress: called with parts done and parts in all.
        notice: told when something in a document had to be changed.

    Raises:
        UsageError: no parts, or an image for a text-only model.
    """
    if not parts:
        raise UsageError("there is nothing to read", "Give at least one document.")
    frame = frame_of(loaded, system)
    head = frame.before_image if parts[0].kind == "image" else frame.before_text
    pieces = [_template_piece(_head_ids(loaded, head))]
    spans: list[Span] = []
    length = int(pieces[0].token_ids.shape[0])
    for done, part in enumerate(parts):
        piece = _image_piece(part, frame, loaded) if part.kind == "image" else _text_piece(part, loaded, notice)
        pieces.append(piece)
        end = length + int(piece.token_ids.shape[0])
        spans.append(Span(part.source, length, end))
        length = end
        if progress is not None:
            progress(done + 1, len(parts))
    pieces.append(_template_piece(encode(loaded, ANCHOR)))
    return Prompt(tuple(pieces), tuple(spans))


def template_prompt(loaded: LoadedModel, *, system: str | None = None) -> Prompt:
    """What a context is without any part: only what the chat template writes around one."""
    head = _template_piece(_head_ids(loaded, frame_of(loaded, system).before_text))
    return Prompt((head, _template_piece(encode(loaded, ANCHOR))), ())


def question_ids(question: str, loaded: LoadedModel) -> list[int]:
    """Tokens of a question and of what the template writes up to the answer. Raises UsageError if it is no text."""
    if not question.strip():
        raise UsageError("a question is empty", 'Ask something: flowmm ask ctx.kv "What is the total?"')
    try:
        question.encode()
    except UnicodeEncodeError:
        raise UsageError("a question has characters that are none (lone surrogates)", "Write it in UTF-8.") from None
    text, _ = neutralised(question.strip(), loaded)
    return encode(loaded, text + frame_of(loaded).after_question)


def encode(loaded: LoadedModel, text: str) -> list[int]:
    """Tokens of a segment as it stands behind a newline (some tokenizers put a blank before a text's first word)."""
    tokenize = loaded.tokenizer
    anchor = tokenize(ANCHOR, add_special_tokens=False).input_ids
    ids = tokenize(ANCHOR + text, add_special_tokens=False).input_ids
    if ids[: len(anchor)] == anchor:
        return list(ids[len(anchor) :])
    return list(tokenize(text, add_special_tokens=False).input_ids)


def neutralised(text: str, loaded: LoadedModel) -> tuple[str, int]:
    """Break up control tokens that a document spells out, so that it cannot pose as the chat template.

    Returns:
        The text with a blank after the first character of each, and how many there were.
    """
    found = 0
    for token in loaded.tokenizer.added_tokens_decoder.values():
        if token.special and token.content in text:
            found += text.count(token.content)
            text = text.replace(token.content, f"{token.content[0]} {token.content[1:]}")
    return text, found


def _render(loaded: LoadedModel, system: str | None, *, with_image: bool) -> tuple[str, str]:
    """What stands before the context and after the question."""
    text = f"{_CONTEXT}\n{_QUESTION}"
    content: Any = text
    if loaded.processor is not None:
        content = [{"type": "image"}] * with_image + [{"type": "text", "text": text}]
    messages = [{"role": "user", "content": content}]
    if system is not None:
        system_content = system if loaded.processor is None else [{"type": "text", "text": system}]
        messages.insert(0, {"role": "system", "content": system_content})
    try:
        rendered = str(
            loaded.tokenizer.apply_chat_template(
                messages, chat_template=loaded.template, add_generation_prompt=True, tokenize=False
            )
        )
    except Exception as error:  # templates raise whatever they like
        if system is not None:
            raise UsageError("the model's chat template takes no system message", "Leave -s/--system away.") from error
        raise _strange_template(loaded, str(error)) from error
    before, found, rest = rendered.partition(f"{_CONTEXT}\n{_QUESTION}")
    if not found or _QUESTION in rest:
        raise _strange_template(loaded, "it rewrites what it is given")
    if system is not None and system.strip() not in before:
        raise UsageError("the model's chat template drops the system message", "Leave -s/--system away.")
    return before, rest


def _strange_template(loaded: LoadedModel, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{loaded.identity.id}: its chat template cannot be used: {reason[:160]}",
        "Use a model whose template puts text and images where they are given.",
    )


def _head_ids(loaded: LoadedModel, head: str) -> list[int]:
    """Tokens of what opens the prompt, with the model's first token where the template leaves that to the tokenizer."""
    ids = list(loaded.tokenizer(head, add_special_tokens=False).input_ids)
    first = loaded.tokenizer.bos_token_id
    adds_first = loaded.tokenizer("a").input_ids[:1] == [first]
    return [first, *ids] if first is not None and adds_first and ids[:1] != [first] else ids


def _template_piece(ids: list[int]) -> Piece:
    token_ids = torch.tensor(ids, dtype=torch.int64)
    return Piece(token_ids, torch.full(token_ids.shape, Modality.TEMPLATE, dtype=torch.uint8))


def _text_piece(part: Part, loaded: LoadedModel, notice: Callable[[str], None] | None) -> Piece:
    text, broken = neutralised(str(part.payload).strip() + "\n", loaded)
    if broken and notice is not None:
        notice(f"{part.source.name}: {broken} control tokens spelled out in the text were broken up with a blank")
    token_ids = torch.tensor(encode(loaded, text), dtype=torch.int64)
    return Piece(token_ids, torch.full(token_ids.shape, Modality.TEXT, dtype=torch.uint8))


def _image_piece(part: Part, frame: Frame, loaded: LoadedModel) -> Piece:
    if loaded.processor is None:
        raise UsageError(
            f"{part.source.name}: goes in as an image, but {loaded.identity.id} reads text only",
            "Use a vision-language model, or --pdf text for a PDF with a text layer.",
        )
    inputs = loaded.processor(text=[frame.image], images=[part.payload], return_tensors="pt", add_special_tokens=False)
    token_ids = inputs["input_ids"][0].to(torch.int64)
    visual = token_ids == _image_token(loaded)
    if not bool(visual.any()):
        raise _strange_template(loaded, "an image leaves no image tokens")
    modality = torch.where(visual, int(Modality.VISUAL), int(Modality.TEXT)).to(torch.uint8)
    return Piece(token_ids, modality, _pixels(inputs, loaded.model))


def _image_token(loaded: LoadedModel) -> int:
    config = loaded.model.config
    token = getattr(config, "image_token_id", None)
    return int(config.image_token_index if token is None else token)


def _pixels(inputs: Any, model: Any) -> dict[str, Tensor]:
    """What the processor made of an image and the model's forward pass takes."""
    known = set(inspect.signature(model.forward).parameters)
    ours = {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"}
    return {k: v for k, v in inputs.items() if k in known - ours and isinstance(v, Tensor)}
