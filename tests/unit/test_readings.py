"""What several methods see of one reading is what each of them would have seen of its own."""

import pytest
import torch

from flowmm import readings
from flowmm.bench.filler import filler
from flowmm.compress import compress
from flowmm.context import Modality
from flowmm.errors import UsageError
from flowmm.hf.prompt import context_prompt
from flowmm.hf.shapes import load_shape
from flowmm.observing import Observe, Probes, Reconstruct, fewest
from flowmm.profiles import load_method, load_profile
from flowmm.records import Answer
from flowmm.validation import Rule
from tests.unit.gates import random_gate

ALL = {
    "snapkv": Observe(tail=8, sample=6),
    "h2o": Observe(tail=0, sample=10, cumulative=True),
    "kvzip": Observe(tail=0, sample=0, reconstruct=Reconstruct(chunk=300)),
    "kvzip-plus": Observe(tail=0, sample=0, reconstruct=Reconstruct(chunk=300, relative=True)),
    "matching": Observe(tail=0, sample=0, reconstruct=Reconstruct(chunk=300, queries=5)),
    "small chunks": Observe(tail=4, sample=6, reconstruct=Reconstruct(chunk=200, queries=5)),
    "probes": Observe(tail=0, sample=0, probes=Probes(requests=["List the keys."], longest=3, queries=2)),
}


@pytest.fixture(scope="module")
def tiny():
    return load_shape("qwen2_5_vl-tiny")


@pytest.fixture(scope="module")
def prompt(tiny):
    return context_prompt(filler(tiny, 400), tiny)


@pytest.fixture(scope="module")
def together(tiny, prompt):
    return readings.full_caches(prompt, tiny, ALL)


@pytest.mark.parametrize("name", ALL)
def test_each_method_gets_the_evidence_of_a_reading_of_its_own(name, together, tiny, prompt):
    alone = readings.full_caches(prompt, tiny, {name: ALL[name]})[name]
    for found, expected in zip(together[name].evidence, alone.evidence, strict=True):
        assert list(found.observed) == list(expected.observed)
        pairs = [(found.observed[key], expected.observed[key]) for key in expected.observed]
        fields = ("queries", "query_index", "cumulative", "sample", "sample_index", "asking")
        pairs += [(getattr(found, field), getattr(expected, field)) for field in fields]
        for one, other in pairs:
            assert (one is None) == (other is None)
            if other is not None:
                torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_context_is_read_once_and_each_pass_is_made_once(tiny, prompt, monkeypatch):
    counts = dict.fromkeys(("prefill", "reconstruct", "replayed"), 0)

    def counting(name):
        real = getattr(readings, name)

        def counted(*given, **named):
            counts[name] += 1
            return real(*given, **named)

        monkeypatch.setattr(readings, name, counted)

    for name in counts:
        counting(name)
    caches = readings.full_caches(prompt, tiny, ALL)
    assert counts == {"prefill": 1, "reconstruct": 2, "replayed": 1}
    assert len({id(cache.layers) for cache in caches.values()}) == 1
    assert [name for name in ALL if "probes" in caches[name].provenance.seconds] == ["probes"]


def test_passes_that_differ_in_what_is_kept_are_one_pass():
    wanted = [Reconstruct(), None, Reconstruct(queries=5), Reconstruct(relative=True), Reconstruct(chunk=9)]
    assert fewest(wanted) == [Reconstruct(queries=5, relative=True), Reconstruct(chunk=9)]


def test_different_draws_of_queries_are_different_passes():
    assert fewest([Reconstruct(queries=5), Reconstruct(queries=6)]) == [Reconstruct(queries=6), Reconstruct(queries=5)]


def test_a_gate_that_may_be_missing_is_left_out(tiny, prompt):
    without = readings.full_caches(prompt, tiny, {"fast": Observe(gate="if_trained")})["fast"]
    assert all("gate" not in one.observed for one in without.evidence)
    found = readings.full_caches(prompt, tiny, {"fast": Observe(gate="if_trained")}, gate=random_gate(tiny))["fast"]
    assert all("gate" in one.observed for one in found.evidence)


def test_a_gate_that_is_not_there_is_said_by_the_name_of_the_method(tiny, prompt):
    with pytest.raises(UsageError, match="method fast looks through a gate"):
        readings.full_caches(prompt, tiny, {"fast": Observe(gate=True)})


def test_each_image_is_asked_about_as_if_it_were_the_whole_context(tiny, monkeypatch):
    asked, prompt = [], context_prompt([*filler(tiny, 300), *filler(tiny, 300)], tiny)

    def answering(cache, questions, loaded, settings):
        asked.append((list(questions), cache.layers[0].position[0].tolist(), settings.max_new_tokens))
        text = f"Lufe{len(asked)}"
        return [Answer(question, text, (1, 2), "stop", 0, 0) for question in questions]

    monkeypatch.setattr(readings, "answer_all", answering)
    probes = Probes(each_image=["Transcribe the page."], longest_image=7, words=20, about_item=["What is {item}?"])
    readings.full_caches(prompt, tiny, {"": Observe(tail=0, probes=probes)})
    images = [span for span in prompt.spans if bool((prompt.modality[span.start : span.end] == Modality.VISUAL).any())]
    assert len(images) == 2
    for span, (questions, places, longest) in zip(images, asked, strict=False):
        assert (questions, longest) == (["Transcribe the page."], 7)
        others = [place for place in places if prompt.modality[place] != Modality.TEMPLATE]
        assert others == [place for place in range(span.start, span.end) if prompt.modality[place] == Modality.VISUAL]
        assert len(places) > len(others)  # the template frames it
    about, places, _ = asked[len(images)]
    assert {"What is Lufe1?", f"What is Lufe{len(images)}?"} <= set(about)
    assert len(places) == len(prompt.modality)


def method_of(observe, rule):
    return load_method("kvzip").model_copy(update={"name": "other", "observe": observe, "score": rule})


@pytest.mark.parametrize(
    ("read_as", "observe"),
    [
        ("kvzip", Observe(reconstruct=Reconstruct(chunk=200))),
        ("probes", Observe(probes=Probes(requests=["List the names."], longest=3, queries=2))),
    ],
)
def test_what_a_pass_saw_is_not_taken_for_what_another_would_have_seen(read_as, observe, together):
    passes = ["reconstruct"] if observe.reconstruct else ["probes"]
    rule = Rule(rule="observed", passes=passes)
    same = ALL[read_as].model_copy(update={"tail": 9})
    assert compress(together[read_as], method_of(same, rule), profile=load_profile(None, "llama"), keep=0.5).keep < 1
    with pytest.raises(UsageError, match=f"with another pass '{passes[0]}' than that of method other"):
        compress(together[read_as], method_of(observe, rule), profile=load_profile(None, "llama"), keep=0.5)


def test_a_pass_may_differ_in_what_is_kept_of_it(together):
    rule = Rule(rule="observed", passes=["reconstruct"])
    assert (
        compress(
            together["matching"], method_of(ALL["kvzip"], rule), profile=load_profile(None, "llama"), keep=0.5
        ).keep
        < 1
    )
