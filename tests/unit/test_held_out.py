"""What held-out questions say of a small cache: by hand where that goes, and on a tiny model."""

import math
from dataclasses import replace

import pytest
import torch

from flowmm.contexts import read_context
from flowmm.held_out import HeldOut, agreement, ask_held_out, divergence, held_out_questions
from flowmm.hf.loading import load_model
from flowmm.merges.selection import take
from flowmm.records import Part, Source

NOTES = Part("text", "Invoice 3921 for Lufe amounts to 480.20 euros. " * 3, Source("notes.txt", "0" * 64, "text"))


def logs(*rows):
    return torch.tensor(rows).log()


def test_divergence_is_that_of_the_tokens_and_of_all_others_as_one():
    # KL of (1/2, 1/4, rest 1/4) from (1/4, 1/4, rest 1/2): 1/2 ln 2 + 0 - 1/4 ln 2.
    assert divergence(logs([0.5, 0.25]), logs([0.25, 0.25])).tolist() == pytest.approx([0.25 * math.log(2)])


def test_equal_distributions_diverge_by_nothing_even_where_nothing_is_left_for_others():
    assert divergence(logs([1.0, 1e-9]), logs([1.0, 1e-9])).tolist() == pytest.approx([0], abs=1e-5)


def test_questions_are_about_the_whole_and_about_names_and_numbers_of_the_text():
    asked = held_out_questions([NOTES, Part("image", None, NOTES.source)])
    assert any("Lufe" in one for one in asked)
    assert any("3921" in one for one in asked)
    assert any("480.20" in one for one in asked)
    assert len(set(asked)) == len(asked)
    assert set(held_out_questions([])) < set(asked)


@pytest.fixture(scope="module")
def read(model):
    loaded = load_model(model.name, device="cpu")
    return loaded, read_context([NOTES], loaded, None)


def test_a_cache_that_lost_nothing_agrees_with_itself(read):
    loaded, full = read
    held = ask_held_out(full, held_out_questions([NOTES]), loaded)
    found = agreement(held, full, loaded)
    assert (found.questions, found.top1, found.important_gone) == (len(held_out_questions([NOTES])), 1, 0)
    assert found.kl == pytest.approx(0, abs=1e-4)
    assert found.tokens == held.top.shape[0] > 0


def test_the_full_cache_is_asked_its_own_answers(read):
    loaded, full = read
    held = ask_held_out(full, ["What is Lufe?"], loaded)
    answered = held.rows[0][held.starts[0] :]
    assert held.top[:, 0].tolist() == list(answered)  # greedy answers are the likeliest tokens


def test_only_tokens_that_the_full_cache_is_sure_of_count_for_the_agreement(read):
    loaded, full = read
    held = ask_held_out(full, ["What is Lufe?", "What is it?"], loaded)
    other = held.top.clone()
    other[1:, 0] = held.top[1:, 1]  # what it would say if it had only its second choice, but for the first token
    sure = torch.full_like(held.log_probs, 0.1).log()
    sure[:2, 0] = math.log(0.9)
    found = agreement(replace(held, top=other, log_probs=sure), full, loaded)
    assert (found.tokens, found.sure, found.top1) == (len(other), 2, 0.5)
    unsure = agreement(replace(held, log_probs=torch.full_like(sure, -5.0)), full, loaded)
    assert (unsure.sure, unsure.top1) == (len(other), 1)


def test_what_is_lost_shows(read):
    loaded, full = read
    held = ask_held_out(full, held_out_questions([NOTES]), loaded)
    bare = replace(full, layers=tuple(take(layer, layer.protected) for layer in full.layers), evidence=None)
    found = agreement(held, bare, loaded)
    assert found.kl > 0.001


def test_important_tokens_that_are_gone_everywhere_are_counted(read):
    loaded, full = read
    held = ask_held_out(full, ["What is Lufe?"], loaded)
    important = torch.zeros(full.num_tokens, dtype=torch.bool)
    important[[10, 11, 12, 13]] = True
    made = HeldOut(held.rows, held.starts, held.top, held.log_probs, important)
    first, *others = full.layers
    without = take(first, (first.position < 11) | (first.position > 13))  # 11 to 13 are gone from the first layer
    kept = [take(one, (one.position < 11) | (one.position > 12)) for one in others]  # 13 lives in the others
    small = replace(full, layers=(without, *kept), evidence=None)
    found = agreement(made, small, loaded)
    assert (found.important, found.important_gone) == (4, 0.5)
