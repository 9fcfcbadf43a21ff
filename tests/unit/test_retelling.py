"""The text of a context, told again: nothing is lost with the full cache, all without the context."""

from hashlib import sha256

import pytest

from flowmm.chosen import load_chosen_model
from flowmm.compress import compress
from flowmm.contexts import read_prompt
from flowmm.filling import least_share
from flowmm.profiles import load_method, load_profile
from flowmm.readings import full_caches
from flowmm.records import Part, Source
from flowmm.retelling import Retelling

METHOD, PROFILE = load_method("streaming-llm"), load_profile("default")


def read(text, loaded):
    source = Source("a.txt", sha256(text.encode()).hexdigest(), "text")
    prompt = read_prompt([Part("text", text, source)], loaded)
    return prompt, full_caches(prompt, loaded, {"": METHOD.observe})[""]


@pytest.fixture(scope="module")
def loaded(model):
    return load_chosen_model(model)


def test_what_is_lost_runs_from_the_full_cache_to_none(loaded):
    prompt, full = read("Invoice 3921 amounts to 480.20 euros, paid on 4 May by Miller. " * 6, loaded)
    without = compress(full, METHOD, profile=PROFILE, keep=least_share(full, PROFILE))
    told = Retelling.of(prompt, full, without, loaded)
    assert told is not None
    assert told.lost(full) == pytest.approx(0, abs=1e-4)
    assert told.lost(without) == pytest.approx(1, abs=1e-3)
    assert told.lost(compress(full, METHOD, profile=PROFILE, keep=0.9)) > 0.001
    assert int(told.compared.sum()) == told.expected.shape[0] <= 192
    assert told.real[:, -1].all()  # windows end together


def test_a_context_of_a_few_words_has_nothing_to_tell(loaded):
    prompt, full = read("Total: 3", loaded)
    assert Retelling.of(prompt, full, full, loaded) is None


def test_a_context_that_makes_no_difference_has_nothing_to_tell(loaded):
    prompt, full = read("Invoice 3921 amounts to 480.20 euros, paid on 4 May by Miller. " * 6, loaded)
    assert Retelling.of(prompt, full, full, loaded) is None
