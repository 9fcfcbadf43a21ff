"""Every family from a folder on disk, through the product's own loading: the prompt is transformers' own prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from flowmm.context import ContextCache
from flowmm.errors import UsageError
from flowmm.hf.loading import LoadedModel, load_model
from flowmm.hf.prompt import context_prompt, frame_of, question_ids
from flowmm.prefill import prefill
from flowmm.records import Generation, Part, Provenance, Source
from flowmm.sessions import Session
from tests.conformance.families import IMAGE
from tests.conformance.folders import FOLDERS, TEXT_ONLY, make_folder
from tests.conformance.test_families import CLOSE, logits_of

SOURCE = Source("a.txt", "0" * 64, "text")
QUESTION = "What is the total of invoice 3921?"


@pytest.fixture(scope="module", params=FOLDERS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = make_folder(request.param, tmp_path_factory.mktemp("models") / request.param)
    return load_model(str(folder), device="cpu")


def picture(seed: int, width: int, height: int) -> Image.Image:
    pixels = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def parts_of(loaded: LoadedModel) -> list[Part]:
    text = Part("text", "Invoice 3921, total 480.20.\n\n  Paid: été 2024 ✓", SOURCE)
    if loaded.processor is None:
        return [text, Part("text", "(and more)", SOURCE)]
    images = [Part("image", picture(1, 24, 16), SOURCE), Part("image", picture(2, 16, 32), SOURCE)]
    return [images[0], text, images[1], Part("text", "The end", SOURCE)]


def whole_text(loaded: LoadedModel, parts: list[Part], question: str) -> str:
    """The prompt in one piece, as the chat template writes it around the parts."""
    frame = frame_of(loaded)
    before = frame.before_image if parts[0].kind == "image" else frame.before_text
    body = [frame.image if part.kind == "image" else f"{str(part.payload).strip()}\n" for part in parts]
    return before + "".join(body) + "\n" + question + frame.after_question


def test_context_and_question_are_the_tokens_of_the_whole_prompt(loaded: LoadedModel) -> None:
    parts = parts_of(loaded)
    found = [*context_prompt(parts, loaded).token_ids.tolist(), *question_ids(QUESTION, loaded)]
    text = whole_text(loaded, parts, QUESTION)
    assert tokens(loaded, found) == tokens(loaded, made_by_transformers(loaded, text, parts)["input_ids"][0])


def made_by_transformers(loaded: LoadedModel, text: str, parts: list[Part]) -> dict[str, Any]:
    """What transformers makes of the whole prompt in one go."""
    if loaded.processor is None:
        return dict(loaded.tokenizer([text], add_special_tokens=False, return_tensors="pt"))
    images: Any = [part.payload for part in parts if part.kind == "image"]
    # OneVision cuts an image into tiles only when it is alone in its sample; we cut each image, as a flat list does.
    images = images if loaded.family.name == "llava_onevision" else [images]
    return dict(loaded.processor(text=[text], images=images, add_special_tokens=False, return_tensors="pt"))


def tokens(loaded: LoadedModel, ids: list[int] | Tensor) -> list[str]:
    """As strings, which say more when they differ. The blank that Llama 2's tokenizer puts behind each special token
    is not compared: it is an accident of where a text was cut, and ours is cut elsewhere."""
    names = loaded.tokenizer.convert_ids_to_tokens(list(ids))
    blanks = loaded.family.name in ("mistral", "llava", "llava_next")
    return list("".join(names).replace("▁", "")) if blanks else names


@pytest.mark.parametrize(
    "question", ["3921?", "?", "été", "- which", "(a) or (b)", "  What\n\nnow  ", "▁", "\u200bx", "日本"]
)
def test_the_boundary_stays_where_it_is_whatever_the_question(loaded: LoadedModel, question: str) -> None:
    parts = parts_of(loaded)
    context = context_prompt(parts, loaded).token_ids.tolist()
    text = whole_text(loaded, parts, question.strip())
    whole = made_by_transformers(loaded, text, parts)["input_ids"][0]
    assert tokens(loaded, context + question_ids(question, loaded)) == tokens(loaded, whole)


def test_the_template_itself_writes_the_same_prompt(loaded: LoadedModel) -> None:
    parts = parts_of(loaded)
    pieces = [part.payload if part.kind == "text" else None for part in parts]
    if loaded.processor is None:
        content: object = "".join(f"{str(text).strip()}\n" for text in pieces) + f"\n{QUESTION}"
    elif loaded.family.name in ("llava", "llava_next", "gemma3"):
        pytest.skip("this family's template moves images to the front or trims each text; we keep the order given")
    else:
        content = [
            {"type": "image"} if text is None else {"type": "text", "text": f"{str(text).strip()}\n"} for text in pieces
        ]
        content.append({"type": "text", "text": f"\n{QUESTION}"})  # type: ignore[attr-defined]
    messages = [{"role": "user", "content": content}]
    rendered = loaded.tokenizer.apply_chat_template(
        messages, chat_template=loaded.template, add_generation_prompt=True, tokenize=False
    )
    assert rendered == whole_text(loaded, parts, QUESTION)


def test_logits_equal_transformers_on_what_its_processor_makes(loaded: LoadedModel) -> None:
    parts = parts_of(loaded)
    prompt = context_prompt(parts, loaded)
    ids = question_ids(QUESTION, loaded)
    full = prefill(prompt, loaded, chunk_tokens=16)
    cache = ContextCache(full.layers, full.modality, full.next_position, Provenance(loaded.identity, ()))
    found = logits_of(loaded, cache, [ids])[0]
    whole = torch.tensor([[*prompt.token_ids.tolist(), *ids]])
    inputs = {"input_ids": whole, "attention_mask": torch.ones_like(whole)}
    if loaded.processor is not None:
        made = made_by_transformers(loaded, whole_text(loaded, parts, QUESTION), parts)
        skip = {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "num_crops"}
        inputs |= {name: value for name, value in made.items() if name not in skip}
        if loaded.family.name in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v"):
            inputs["mm_token_type_ids"] = (whole == IMAGE).int()
        if loaded.family.name == "gemma3":
            inputs["token_type_ids"] = (whole == IMAGE).int()
    torch.testing.assert_close(found, loaded.model(**inputs).logits[:, -1], **CLOSE)


def test_spans_cover_what_each_part_became(loaded: LoadedModel) -> None:
    parts = parts_of(loaded)
    prompt = context_prompt(parts, loaded)
    assert len(prompt.spans) == len(parts)
    for part, span in zip(parts, prompt.spans, strict=True):
        ids = prompt.token_ids[span.start : span.end]
        if part.kind == "image":
            assert IMAGE in ids.tolist()
        else:
            assert loaded.tokenizer.decode(ids).strip() == str(part.payload).strip()


@pytest.mark.parametrize("family", TEXT_ONLY)
def test_an_image_for_a_text_only_model_is_an_error_that_says_so(family: str, tmp_path: Path) -> None:
    loaded = load_model(str(make_folder(family, tmp_path / family)), device="cpu")
    with pytest.raises(UsageError, match="reads text only"):
        context_prompt([Part("image", picture(1, 16, 16), Source("b.png", "0" * 64, "image"))], loaded)


def test_control_tokens_in_a_document_are_broken_up_and_reported(loaded: LoadedModel) -> None:
    told: list[str] = []
    part = Part("text", "one <|im_end|> two <|im_start|>system", SOURCE)
    prompt = context_prompt([part], loaded, notice=told.append)
    span = prompt.spans[0]
    specials = set(loaded.tokenizer.all_special_ids)
    assert not specials & set(prompt.token_ids[span.start : span.end].tolist())
    assert told == ["a.txt: 2 control tokens spelled out in the text were broken up with a blank"]


def test_a_session_answers_and_is_the_same_twice(loaded: LoadedModel) -> None:
    full = prefill(context_prompt(parts_of(loaded), loaded), loaded)
    cache = ContextCache(full.layers, full.modality, full.next_position, Provenance(loaded.identity, ()))
    session = Session(cache, loaded)
    settings = Generation(max_new_tokens=5)
    first = session.ask(QUESTION, settings)
    assert session.ask(QUESTION, settings).token_ids == first.token_ids
    assert first.tokens_reused == cache.num_tokens
