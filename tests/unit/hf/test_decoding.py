from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from flowmm.answer import check_generation
from flowmm.errors import UsageError
from flowmm.hf.decoding import Sampler, TextStream
from flowmm.records import Generation


def byte_tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: i for i, character in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def stream_of(*stop: str) -> tuple[TextStream, Tokenizer]:
    tokenizer = byte_tokenizer()
    loaded = SimpleNamespace(tokenizer=SimpleNamespace(backend_tokenizer=tokenizer))
    return TextStream(loaded, stop), tokenizer  # type: ignore[arg-type]


def pushed(text: str, *stop: str) -> tuple[list[str], TextStream]:
    stream, tokenizer = stream_of(*stop)
    out = []
    for token in tokenizer.encode(text).ids:
        if stream.stopped:
            break
        out.append(stream.push(token))
    return out, stream


def test_half_a_character_is_never_printed() -> None:
    out, _ = pushed("a€b")
    assert out == ["a", "", "", "€", "b"]


def test_a_stop_string_ends_the_text_before_it() -> None:
    out, stream = pushed("yes END no", "END")
    assert "".join(out) == "yes "
    assert stream.stopped


def test_what_may_become_a_stop_string_is_held_back_until_it_does_not() -> None:
    out, stream = pushed("aEb", "END")
    assert out == ["a", "", "Eb"]
    assert not stream.stopped


def test_the_end_of_an_answer_gives_out_what_was_held_back() -> None:
    out, stream = pushed("aEN", "END")
    assert "".join(out) + stream.flush() == "aEN"


def test_greedy_takes_the_likeliest() -> None:
    sampler = Sampler(Generation(), torch.device("cpu"))
    assert sampler(torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]]), [0, 1]).tolist() == [1, 0]


def test_a_draw_does_not_depend_on_what_else_is_in_the_batch() -> None:
    settings = Generation(temperature=1.0, seed=3)
    logits = torch.zeros(1, 50)
    together, alone = Sampler(settings, torch.device("cpu")), Sampler(settings, torch.device("cpu"))
    rows = [together(logits.expand(2, -1), [0, 1])[1].item() for _ in range(8)]
    assert rows == [alone(logits, [1]).item() for _ in range(8)]
    assert len(set(rows)) > 3, "the draws are all alike, so this test shows nothing"


@pytest.mark.parametrize("settings", [Generation(temperature=1.0, top_k=1), Generation(temperature=1.0, top_p=0.01)])
def test_top_k_and_top_p_bar_the_unlikely(settings: Generation) -> None:
    sampler = Sampler(settings, torch.device("cpu"))
    assert {sampler(torch.tensor([[0.0, 2.0, 1.0]]), [0]).item() for _ in range(20)} == {1}


def test_any_seed_draws() -> None:
    sampler = Sampler(Generation(temperature=1.0, seed=20_261_124_031_216), torch.device("cpu"))
    assert sampler(torch.zeros(1, 5), [7]).item() in range(5)


@pytest.mark.parametrize("temperature", [-0.5, float("nan")])
def test_a_temperature_is_a_number_of_at_least_0(temperature: float) -> None:
    with pytest.raises(UsageError, match="is no number of at least 0"):
        check_generation(Generation(temperature=temperature))
