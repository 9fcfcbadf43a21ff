"""What answers lose when one head forgets the context, on a tiny model, and what head weights do to a budget."""

from dataclasses import replace

import pytest

from flowmm.compress import compress
from flowmm.contexts import read_context
from flowmm.errors import UsageError
from flowmm.head_weights import head_losses, questions_about
from flowmm.hf.loading import load_model
from flowmm.merges.selection import take
from flowmm.profiles import load_method, load_profile
from flowmm.records import Part, Source
from tests.unit.plain_layers import random_context

NOTES = Part("text", "Invoice 3921 for Lufe amounts to 480.20 euros. " * 3, Source("notes.txt", "0" * 64, "text"))
PLAIN = load_profile()


def test_a_head_that_has_nothing_to_forget_loses_nothing_and_the_others_do(model):
    loaded = load_model(model.name)
    full = read_context([NOTES], loaded, load_method("full"))
    kept = ~full.layers[1].padding
    kept[0] &= full.layers[1].protected[0]
    layers = (full.layers[0], take(full.layers[1], kept), *full.layers[2:])
    known, seen = replace(full, layers=layers, evidence=None), []
    losses = head_losses(known, questions_about([NOTES]), loaded, lambda done, total: seen.append((done, total)))
    assert [len(layer) for layer in losses] == [layer.keys.shape[0] for layer in layers]
    assert seen[-1] == (sum(map(len, losses)),) * 2
    assert losses[1].pop(0) == pytest.approx(0, abs=1e-6)
    assert min(loss for layer in losses for loss in layer) > 1e-5
    assert known.layers[0].lengths.tolist() == [full.num_tokens] * len(losses[0])  # it is as it was


def test_questions_are_about_names_and_numbers():
    assert questions_about([NOTES]) == ("What is Invoice?", "What is 3921?", "What is Lufe?", "What is 480.20?")
    assert questions_about([]) == ()


def lengths(weights, method="flowmm-fast", **options):
    context, profile = random_context(), PLAIN.model_copy(update={"head_weight": weights})
    return [one.lengths.tolist() for one in compress(context, load_method(method), profile=profile, **options).layers]


def test_a_head_that_counts_keeps_more_and_the_total_stays():
    even, one = lengths([[1.0, 1.0]] * 3, keep=0.3), lengths([[0.01, 1.0]] + [[0.01, 0.01]] * 2, keep=0.3)
    assert sum(map(sum, lengths(None, keep=0.3))) == sum(map(sum, even)) == sum(map(sum, one))
    assert all(first == second for first, second in even)  # what counts in one head counts as much in the other
    assert one[0][1] > even[0][1]
    assert one[0][1] > max(one[0][0], *one[1], *one[2])


def test_methods_of_papers_do_not_look_at_the_weights():
    weights = [[0.01, 1.0]] * 3
    assert lengths(weights, "leverage", keep=0.3) == lengths(None, "leverage", keep=0.3)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([[1.0, 1.0]], "head_weight lists 1 layers, but the model has 3"),
        ([[1.0, 1.0], [1.0], [1.0, 1.0]], "head_weight of layer 1 lists 1 heads, but the model has 2"),
    ],
)
def test_weights_for_another_model_are_refused(weights, message):
    with pytest.raises(UsageError, match=message):
        lengths(weights, keep=0.3)
