"""The gate of Fast KVzip: its formula, its training, its file, and how a context is read with one."""

import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flowmm import reader
from flowmm.contexts import read_context
from flowmm.errors import CorruptFileError, InputError, MismatchError, UsageError
from flowmm.fingerprint import weights_fingerprint
from flowmm.hf.layers import shown_to
from flowmm.hf.loading import LoadedModel, load_model
from flowmm.lessons import lesson
from flowmm.observe.gate import Gate, Gating, LayerGate
from flowmm.observe.gate_file import FORMAT, gate_of, load_gate, save_gate
from flowmm.observe.gate_training import Lesson, drawn, rank_correlation, train
from flowmm.profiles import load_method, load_profile
from flowmm.records import Part, Source
from tests.conformance.folders import make_folder
from tests.unit.gates import profile_with_gate, random_gate
from tests.unit.small_caches import provenance

METHOD = load_method("fast-kvzip")
PARTS = [Part("text", "Invoice 3921 amounts to 480.20 euros. " * 4, Source("a.txt", "0" * 64, "text"))]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(str(make_folder("qwen2", tmp_path_factory.mktemp("models") / "tiny")), device="cpu")


def small_gate() -> LayerGate:
    """One KV head, two query heads, rank 1, hidden states of one number: a norm leaves of it its sign."""
    return LayerGate(
        query=torch.tensor([[[1.0]], [[-1.0]]]),
        query_bias=torch.zeros(2, 1),
        query_norm=torch.tensor([2.0]),
        key=torch.tensor([[[1.0]]]),
        key_norm=torch.tensor([3.0]),
        sinks=torch.tensor([[[0.5], [0.0]]]),
        bias=torch.tensor([0.0, 4.0]),
    )


def test_the_score_is_the_papers():
    # The state 5 gives k = 3 and q = 2, -2; sinks weigh exp(0.5 q) and exp(0); own logits are k q + beta.
    first = 1 / (1 + math.exp(1 - 6) + math.exp(0 - 6))
    second = 1 / (1 + math.exp(-1 + 6 - 4) + math.exp(0 + 6 - 4))
    found = small_gate()(torch.tensor([[5.0]]))
    assert found.shape == (1, 1)
    assert float(found) == pytest.approx((first + second) / 2, abs=1e-5)


def test_heads_look_through_their_own_key_head():
    gate = drawn(4, 2, 8, torch.Generator().manual_seed(1))
    states = torch.randn(5, 8, generator=torch.Generator().manual_seed(2))
    halves = [
        LayerGate(
            gate.query[two],
            gate.query_bias[two],
            gate.query_norm,
            gate.key[one],
            gate.key_norm,
            gate.sinks[one],
            gate.bias[two],
        )
        for one, two in ((slice(0, 1), slice(0, 2)), (slice(1, 2), slice(2, 4)))
    ]
    assert torch.allclose(gate(states), torch.cat([half(states) for half in halves]), atol=1e-6)


def test_a_gate_that_knows_nothing_answers_about_what_it_is_told_to():
    odds = torch.tensor([-3.0, 1.0])
    gate = drawn(4, 2, 64, torch.Generator().manual_seed(0), odds)
    means = gate(torch.randn(500, 64, generator=torch.Generator().manual_seed(1))).mean(1)
    assert float((means - odds.sigmoid()).abs().max()) < 0.1


def test_chunks_give_what_the_whole_gives():
    gate = Gate((drawn(4, 2, 8, torch.Generator().manual_seed(1)),), "w")
    states = torch.randn(1, 10, 8, generator=torch.Generator().manual_seed(2))
    gating = Gating(gate)
    for part in (states[:, :3], states[:, 3:]):
        gating(0, part)
    assert torch.allclose(gating.seen().received[0], gate.layers[0](states[0]), atol=1e-6)


def test_ranks_correlate_whatever_the_numbers_are():
    one = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(one, one.exp()) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert rank_correlation(one, torch.ones(4)) == 0
    # Ranks 1 2 3 4 and 1.5 1.5 3.5 3.5: covariance 4, variances 5 and 4.
    assert rank_correlation(one, torch.tensor([0.0, 0.0, 7.0, 7.0])) == pytest.approx(4 / math.sqrt(20))


def lessons(count: int, tokens: int = 200) -> list[Lesson]:
    """The first number of a state says what the target is; those of one axis are a thousand times the others."""
    made = []
    for seed in range(count):
        states = torch.randn(tokens, 8, generator=torch.Generator().manual_seed(seed))
        target = torch.stack([3 * states[:, 0], -3 * states[:, 0] - 1]).sigmoid()
        made.append(Lesson((states * torch.tensor([1.0, 1e3, 1, 1, 1, 1, 1, 1]),), (target,)))
    return made


def test_training_beats_the_constant_on_a_document_that_was_held_out():
    gate, report = train(lessons(4), 4, "w", steps=150)
    assert (report.tokens, report.held_out, report.held_out_tokens) == (600, "the last context", 200)
    assert report.bce[0] < report.bce_constant[0] - 0.05
    assert report.correlation[0] > 0.8
    assert (len(gate.layers), gate.weights) == (1, "w")
    assert all(not getattr(gate.layers[0], field.name).requires_grad for field in fields(LayerGate))


def test_training_is_the_same_with_the_same_seed_and_holds_out_the_ends_of_few_documents():
    (one, report), (again, _), (other, _) = (train(lessons(1), 2, "w", steps=3, seed=seed) for seed in (1, 1, 2))
    assert (report.tokens, report.held_out, report.held_out_tokens) == (160, "the last fifth of each context", 40)
    assert torch.equal(one.layers[0].query, again.layers[0].query)
    assert not torch.equal(one.layers[0].query, other.layers[0].query)


def test_too_few_tokens_are_refused():
    with pytest.raises(UsageError, match="0 tokens to train a gate on and 1 to judge it by are too few"):
        train(lessons(1, tokens=1), 2, "w")


def test_a_gate_comes_back_from_its_file_as_it_was_judged(loaded: LoadedModel, tmp_path: Path):
    gate, _ = train(lessons(1), 2, loaded.identity.weights, steps=3)
    path = tmp_path / "my-gate.safetensors"
    save_gate(gate, path, "tiny")
    back = load_gate(path, loaded.identity)
    for field in fields(LayerGate):
        assert torch.equal(getattr(back.layers[0], field.name), getattr(gate.layers[0], field.name))
    with pytest.raises(UsageError, match="exists already"):
        save_gate(gate, path, "tiny")


def test_what_is_no_gate_of_this_model_is_refused(loaded: LoadedModel, tmp_path: Path):
    path = tmp_path / "my-gate.safetensors"
    with pytest.raises(InputError, match="no such file"):
        load_gate(path, loaded.identity)
    save_gate(random_gate(loaded), path, "tiny")
    with pytest.raises(
        MismatchError, match=r"my-gate.safetensors: made with weights of tiny .*, but found 0000"
    ) as caught:
        load_gate(path, replace(loaded.identity, weights="0" * 32))
    assert "flowmm calibrate" in caught.value.hint

    tensors = load_file(path)
    ours = {"format": FORMAT, "weights": loaded.identity.weights}
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(CorruptFileError, match=f"expected format {FORMAT}, found pt"):
        load_gate(path, loaded.identity)
    save_file({**tensors, "layers.1.sinks": torch.zeros(2, 16, 3)}, path, ours)
    with pytest.raises(CorruptFileError, match=r"layers.1.sinks has shape \[2, 16, 3\], expected \[2, 16, 16\]"):
        load_gate(path, loaded.identity)
    save_file({name: tensor for name, tensor in tensors.items() if name != "layers.0.bias"}, path, ours)
    with pytest.raises(CorruptFileError, match=r"layers.0.bias is missing"):
        load_gate(path, loaded.identity)
    save_file({**tensors, "layers.0.bias": tensors["layers.0.bias"] / 0}, path, ours)
    with pytest.raises(CorruptFileError, match="layer 0 is not finite"):
        load_gate(path, loaded.identity)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptFileError, match="damaged"):
        load_gate(path, loaded.identity)


def test_a_context_read_through_a_gate_holds_the_scores_of_its_hidden_states(loaded: LoadedModel):
    gate = random_gate(loaded)
    states: dict[int, torch.Tensor] = {}
    with shown_to(loaded.model, lambda layer, given: states.__setitem__(layer, given[0])):
        plain = read_context(PARTS, loaded, METHOD.model_copy(update={"observe": load_method("knorm").observe}))
    cache = read_context(PARTS, loaded, METHOD, gate=gate, chunk_tokens=7)
    assert plain.evidence is not None
    assert cache.evidence is not None
    assert "gate" not in plain.evidence[0].observed
    for index, (layer, seen) in enumerate(zip(gate.layers, cache.evidence, strict=True)):
        assert torch.allclose(seen.observed["gate"], layer(states[index]), atol=1e-4)
        assert seen.observed["gate"].shape == cache.layers[index].position.shape


def test_a_full_file_holds_the_scores_of_a_gate_that_is_there(loaded: LoadedModel):
    without = read_context(PARTS, loaded, None)
    having = read_context(PARTS, loaded, None, gate=random_gate(loaded))
    assert without.evidence is not None
    assert having.evidence is not None
    assert (set(without.evidence[0].observed), set(having.evidence[0].observed)) == (set(), {"gate"})
    with pytest.raises(UsageError, match="method fast-kvzip looks through a gate") as caught:
        read_context(PARTS, loaded, None, passes=METHOD)
    assert "flowmm calibrate DOCUMENTS --gate" in caught.value.hint


def test_a_gate_is_opened_only_for_who_looks_through_it(loaded: LoadedModel):
    profile = load_profile().model_copy(update={"gate": "my.safetensors", "gate_file": "missing/my.safetensors"})
    assert gate_of(profile, loaded, load_method("keydiff")) is None
    assert gate_of(load_profile(), loaded, METHOD) is None
    for method in (METHOD, None):
        with pytest.raises(InputError, match=r"missing/my.safetensors: there is no such file"):
            gate_of(profile, loaded, method)


def test_a_profile_may_name_a_gate_that_fits(loaded: LoadedModel, tmp_path: Path):
    found = gate_of(load_profile(profile_with_gate(tmp_path, loaded)), loaded, METHOD)
    assert found is not None
    assert found.weights == loaded.identity.weights


def test_the_shipped_gate_fits_the_shipped_weights():
    profile = load_profile("reader")
    if profile.gate_file is None:
        pytest.skip("the reader's profile names no gate")
    weights = weights_fingerprint(list(reader.folder().glob("*.safetensors")))
    assert load_gate(profile.gate_file, replace(provenance().model, weights=weights)).weights == weights


def test_a_lesson_has_the_states_and_targets_of_tokens_that_can_be_evicted(loaded: LoadedModel):
    told: list[str] = []
    whole = lesson(PARTS, loaded, most_bytes=1 << 20, progress=lambda phase, _done, _total: told.append(phase))
    assert set(told) == {"prefill", "reconstruct", "probes"}
    tokens = whole.states[0].shape[0]
    states: dict[int, torch.Tensor] = {}
    with shown_to(loaded.model, lambda layer, given: states.__setitem__(layer, given[0])):
        cache = read_context(PARTS, loaded, load_method("keydiff"))
    inner = cache.modality != 2
    assert int(inner.sum()) == tokens
    assert all(torch.allclose(one, states[layer][inner], atol=1e-5) for layer, one in enumerate(whole.states))
    second = read_context(PARTS, loaded, load_method("kvzip"))
    assert second.evidence is not None
    above = 0
    for targets, seen in zip(whole.targets, second.evidence, strict=True):
        repeated = seen.observed["reconstruct"][:, inner]
        assert bool((targets >= repeated - 1e-5).all())
        above += int((targets > repeated + 1e-3).sum())
    assert above > 0  # of the questions

    nameless = [replace(PARTS[0], payload="the whole of it is in small letters " * 4)]
    plain = lesson(nameless, loaded, most_bytes=1 << 20, progress=lambda *_: None)
    second = read_context(nameless, loaded, load_method("kvzip"))
    assert second.evidence is not None
    for targets, seen in zip(plain.targets, second.evidence, strict=True):
        assert torch.allclose(targets, seen.observed["reconstruct"][:, second.modality != 2], atol=1e-5)

    layers, hidden = len(whole.states), whole.states[0].shape[1]
    few = lesson(PARTS, loaded, most_bytes=10 * layers * hidden * 4 + 1, progress=lambda *_: None, chunk_tokens=9)
    assert few.states[0].shape[0] == few.targets[0].shape[1] == 10
    distances = (few.states[1][:, None] - whole.states[1]).norm(dim=-1)  # [10, n]
    assert bool((distances.amin(1) < 1e-3).all())
    assert bool((distances.argmin(1).diff() > 0).all())
