"""Heads of two models are matched by what they look at; a method and a scout go together or not at all."""

from dataclasses import replace

import pytest
import torch

from flowmm.context import Evidence, Piece, Prompt
from flowmm.errors import MismatchError, UsageError
from flowmm.observe.scout import Match, Scouted, check_same_tokens, favourites, matched, with_scouted
from flowmm.pipeline import prefill_file
from flowmm.plan import CompressOptions, Plan
from flowmm.profiles import load_method
from flowmm.records import ModelOptions
from tests.unit.plain_layers import layer, random_context
from tests.unit.small_caches import identity

SMALLKV = load_method("smallkv")


def heads(*rows: str) -> torch.Tensor:
    """``[H_kv, S]`` from rows such as "x.x." """
    return torch.tensor([[mark == "x" for mark in row] for row in rows])


def as_lists(match: Match) -> tuple[list[int], list[float]]:
    return match.head.tolist(), [round(one, 4) for one in match.overlap.tolist()]


def test_a_head_is_matched_to_the_one_with_the_largest_share_of_common_favourites():
    large = [heads("xxx...", "...xxx")]
    scout = [heads("xx...x"), heads("..xxxx"), heads("x.....")]
    # with the first: 2 of 4 and 1 of 5; with the second: 1 of 6 and 3 of 4; with the third: 1 of 3 and 0 of 4
    assert as_lists(matched(large, scout)[0]) == ([0, 1], [0.5, 0.75])


def test_heads_are_counted_through_all_layers_of_the_scout():
    scout = [heads("x...", ".x.."), heads("..x.", "...x")]
    found = matched([heads("..x."), heads(".x..")], scout)
    assert [as_lists(one) for one in found] == [([2], [1.0]), ([1], [1.0])]


def test_among_equals_the_nearest_in_depth_and_then_in_place_is_taken():
    alike = heads("xx..", "xx..")
    found = matched([alike] * 4, [alike] * 2)
    assert [one.head.tolist() for one in found] == [[0, 1], [0, 1], [2, 3], [2, 3]]
    wide = heads(*["xx.."] * 4)
    assert [one.head.tolist() for one in matched([wide], [alike])] == [[0, 0, 1, 1]]


def test_a_model_that_scouts_for_itself_gets_its_own_heads_even_where_they_look_alike():
    own = [heads("xx..", "x.x."), heads("xx..", "xx.."), heads("....", "...x")]
    found = matched(own, own)
    assert [one.head.tolist() for one in found] == [[0, 1], [2, 3], [4, 5]]
    assert found[2].overlap.tolist() == [0.0, 1.0]  # a head without favourites overlaps with none


def test_favourites_are_the_slots_with_most_attention_of_the_last_queries_but_no_sinks():
    plain = layer([[[0.0], [5.0], [4.0], [0.0], [2.0]]], position=[[0, 10, 11, 12, 13]])
    queries = torch.tensor([[[-1.0], [1.0]]])  # of two tokens; only the last one is looked through
    seen = Evidence(queries, torch.tensor([12, 13]), 1.0)
    cache = replace(random_context(), layers=(plain,), evidence=(seen,))
    assert favourites(cache, 1, 0.4)[0].tolist() == [[False, True, True, False, False]]
    away = replace(cache, evidence=(replace(seen, queries=-queries),))
    assert favourites(away, 1, 0.2)[0].tolist() == [[False, False, False, True, False]]  # but for the sink


def test_slots_out_of_sight_are_no_favourites():
    sliding = layer([[[0.0]] * 4], position=[[10, 11, 12, 13]], window=2)
    cache = replace(
        random_context(),
        layers=(sliding,),
        evidence=(Evidence(torch.ones(1, 1, 1), torch.tensor([13]), 1.0),),
    )
    assert favourites(cache, 1, 1.0)[0].tolist() == [[False, False, True, True]]


def scouted(cache, **other) -> Scouted:
    tokens = torch.arange(cache.num_tokens)
    looked = favourites(cache, 32, 0.1)
    scores = tuple(torch.full(one.shape, float(number)) for number, one in enumerate(looked))
    values = {"model": identity("small"), "token_ids": tokens, "modality": cache.modality, "tail": 32, "top": 0.1}
    return Scouted(**(values | {"favourites": looked, "scores": scores} | other))


def test_the_scores_of_matched_heads_become_evidence_and_the_scout_is_recorded():
    cache = random_context()
    seen = scouted(cache)
    turned = replace(seen, favourites=seen.favourites[::-1])  # its last layer looks where our first one does
    done = with_scouted(cache, turned)
    assert [set(one.observed["scout"].flatten().tolist()) for one in done.evidence] == [{2.0}, {1.0}, {0.0}]
    assert done.provenance.scout.model == identity("small")
    assert done.provenance.scout.overlap == (1.0, 1.0, 1.0)
    assert "scout" not in cache.evidence[0].observed


def prompt(ids: list[int], modality: list[int]) -> Prompt:
    return Prompt((Piece(torch.tensor(ids), torch.tensor(modality, dtype=torch.uint8)),), ())


@pytest.mark.parametrize(
    ("ids", "modality", "message"),
    [
        ([1, 2], [0, 0], "scores of the scout small: made with number of tokens 3, but found 2 in big"),
        ([1, 2, 9], [0, 0, 1], "scores of the scout small: made with id of token 2 3, but found 9 in big"),
        ([1, 2, 3], [0, 1, 1], "made with modality of token 1 text, but found visual in big"),
    ],
)
def test_a_scout_that_read_other_tokens_is_refused(ids, modality, message):
    seen = replace(
        scouted(random_context()),
        token_ids=torch.tensor([1, 2, 3]),
        modality=torch.tensor([0, 0, 1], dtype=torch.uint8),
    )
    check_same_tokens(seen, prompt([1, 2, 3], [0, 0, 1]), "big")
    with pytest.raises(MismatchError, match=message) as raised:
        check_same_tokens(seen, prompt(ids, modality), "big")
    assert raised.value.exit_code == 4


@pytest.mark.parametrize(
    ("method", "enabled", "scout", "message"),
    [
        ("snapkv", True, "small", "--scout small: was given, but method snapkv takes no scout's scores"),
        ("smallkv", True, None, "method smallkv takes the scores of a smaller model, but no --scout was given"),
        ("smallkv", False, None, "method smallkv takes the scores of a smaller model, but no --scout was given"),
        (None, True, "small", "--scout small: was given without a method"),
    ],
)
def test_a_scout_without_its_method_and_a_method_without_its_scout_are_refused_at_once(
    method, enabled, scout, message, tmp_path
):
    options = CompressOptions(enabled, method)
    with pytest.raises(UsageError, match=message):
        prefill_file(
            ["missing.txt"], tmp_path / "a.kv", scout=scout, compression=options, model=ModelOptions("any/model")
        )


def test_a_method_and_its_scout_go_together():
    Plan.early("any/model", CompressOptions(method="smallkv")).check_scout("small")
    Plan.early("any/model", CompressOptions(method="snapkv")).check_scout(None)
    Plan.early("any/model", CompressOptions()).check_scout(None)  # not known yet
    blind = SMALLKV.model_copy(update={"observe": SMALLKV.observe.model_copy(update={"tail": 0})})
    plan = replace(Plan.early("any/model", CompressOptions()), method=blind)
    with pytest.raises(UsageError, match=r"smallkv has observe\.tail 0"):
        plan.check_scout("small")
