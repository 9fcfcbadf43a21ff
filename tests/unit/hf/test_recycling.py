"""The recycle bin on numbers that can be checked by eye: which slot goes when."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowmm.decode import Decode, stored_decode
from flowmm.errors import CorruptFileError
from flowmm.hf.recycling import RecyclingTail
from flowmm.profiles import load_method

NOTHING = float("-inf")  # log-sum-exp over a context without slots: all attention is on the tail


def feed(tail: RecyclingTail, position: int, weights: list[list[float]], queries: list[list[float]]) -> Tensor:
    """Feed tokens of one question to layer 0. ``exp(key)`` are the weights, ``[H_kv][n]``; queries are ``[H_kv][G]``.

    A query of 1 looks by these weights, one of 0 at all slots alike. Returns the sums of the weights seen by the
    last token, ``[H_kv, G]``.
    """
    key = torch.tensor(weights).log()[None, :, :, None]  # [1, H_kv, n, 1]
    n = key.shape[2]
    query = torch.tensor(queries)[None, :, :, None, None].expand(-1, -1, -1, n, -1)  # [1, H_kv, G, n, 1]
    tail.begin(position + torch.arange(n)[None], torch.ones(1, n, dtype=torch.bool), slice(0, 1))
    total = look(tail, query, key, torch.full((1, len(weights), query.shape[2] * n), NOTHING))
    return total.view(len(weights), -1, n)[..., -1].exp()


def look(tail: RecyclingTail, query: Tensor, key: Tensor, prefix: Tensor) -> Tensor:
    """Take in keys, look at all there are and say so: ``[1, H_kv, G * n]`` log-sum-exp over the tail alone."""
    keys, _, bias = tail.take(0, key, key, None)
    total = (query @ keys[:, :, None].mT + bias[:, :, None]).logsumexp(-1).flatten(2)
    tail.looked(0, query, torch.logaddexp(prefix, total), 1.0)
    return total


def held(tail: RecyclingTail) -> list[list[int]]:
    """Positions of each head's slots."""
    slots = tail._layers[0]
    return [row[: int(tail._held)].tolist() for row in slots.position[0]]


def in_bin(tail: RecyclingTail) -> list[list[int]]:
    slots = tail._layers[0]
    return [position[binned].tolist() for position, binned in zip(slots.position[0], slots.binned[0], strict=True)]


def test_the_least_looked_at_go_into_the_bin_and_out_together_when_it_is_full() -> None:
    tail = RecyclingTail([2], 20, Decode(keep=3, bin=2))
    seen = [float(feed(tail, 100, [[4.0]], [[1.0]]))]
    found = []
    for position, weight in ((101, 1.0), (102, 5.0), (103, 10.0), (104, 20.0), (105, 5.0)):
        seen.append(float(feed(tail, position, [[weight]], [[1.0]])))
        found.append((held(tail)[0], in_bin(tail)[0]))
    assert found == [
        ([100, 101], []),  # received so far: 4/5 1/5; what the question's first token looks at does not count
        ([100, 101, 102], []),  # 1.2 0.3 0.5
        ([100, 101, 102, 103], [102]),  # 1.4 0.35 0.75 0.5: 101 is the question's last, 103 the newest
        ([100, 101, 104], []),  # 1.5 0.375 (0.875) 0.75 0.5: 103 joins 102, and both go
        ([100, 101, 104, 105], [104]),  # 1.63 0.41 1.17 0.17
    ]
    # In the bin a slot is still attended: 40 is all five. Behind it, 4 + 1 + 20 + 5.
    assert seen == pytest.approx([4, 5, 10, 20, 40, 30])
    assert tail._layers[0].score[0, 0, :3].tolist() == pytest.approx([1.5 + 4 / 30, 0.375 + 1 / 30, 0.5 + 20 / 30])


def test_a_slot_in_the_bin_stays_there_whatever_it_receives_later() -> None:
    tail = RecyclingTail([1], 20, Decode(keep=2, bin=2))
    feed(tail, 0, [[1.0]], [[1.0]])
    feed(tail, 1, [[1.0]], [[1.0]])
    feed(tail, 2, [[1.0]], [[1.0]])
    assert in_bin(tail) == [[1]]
    tail._layers[0].score[0, 0, 1] = 9.0
    feed(tail, 3, [[1.0]], [[1.0]])
    assert held(tail) == [[0, 3]]


def test_each_head_drops_its_own_and_its_query_heads_vote_by_their_mean() -> None:
    tail = RecyclingTail([1], 20, Decode(keep=3, bin=1))
    # Head 0: 3/4 for slot 1 from one query head. Head 1: the other way round.
    weights = [[2.0, 1.0, 6.0, 1.0], [2.0, 6.0, 1.0, 1.0]]
    for number in range(4):
        feed(tail, number, [[row[number]] for row in weights], [[1.0, 0.0], [1.0, 0.0]])
    assert held(tail) == [[0, 2, 3], [0, 1, 3]]
    # The first slot of head 0: the sums of 1, 2/3, 2/9, 2/10 and of 1, 1/2, 1/3, 1/4.
    first = (1 + 2 / 3 + 2 / 9 + 2 / 10 + 1 + 1 / 2 + 1 / 3 + 1 / 4) / 2
    assert float(tail._layers[0].score[0, 0, 0]) == pytest.approx(first)


def test_the_attention_that_the_context_takes_is_not_received() -> None:
    tail = RecyclingTail([1], 9, Decode(keep=2, bin=1))
    tail.begin(torch.tensor([[7]]), torch.ones(1, 1, dtype=torch.bool), slice(0, 1))
    one = torch.zeros(1, 1, 1, 1)
    look(tail, one[None], one, torch.tensor([[[3.0]]]).log())
    assert float(tail._layers[0].score[0, 0, 0]) == pytest.approx(1 / 4)


def test_a_question_longer_than_what_is_kept_shrinks_by_a_bin_a_step_and_keeps_its_last_token() -> None:
    tail = RecyclingTail([7], 50, Decode(keep=3, bin=2))
    feed(tail, 0, [[1.0] * 6], [[0.0]])
    assert held(tail) == [[0, 1, 2, 3, 4, 5]]  # no answer yet, nothing goes
    kept = []
    for position in range(6, 11):
        feed(tail, position, [[1.0]], [[0.0]])
        kept.append(held(tail)[0])
    assert kept == [
        [2, 3, 4, 5, 6],  # of equal ones the oldest go
        [4, 5, 6, 7],
        [5, 6, 8],  # 7 received 1/6 + 1/5, 4 and 5 each 1/7 more
        [5, 6, 8, 9],
        [5, 6, 10],
    ]
    assert tail._layers[0].keys.shape[2] == 7


def test_the_newest_are_spared_as_many_as_the_method_says() -> None:
    tail = RecyclingTail([1], 50, Decode(keep=4, bin=2, recent=0.5))
    for position in range(6):
        feed(tail, position, [[1.0]], [[0.0]])
    assert held(tail) == [[0, 1, 4, 5]]  # 2 fell when 3 and 4 were the newest, 3 when 4 and 5 were


def test_a_file_says_what_its_method_does_while_decoding() -> None:
    assert stored_decode(load_method("hae").text) == load_method("hae").decode
    assert stored_decode(load_method("h2o").text) is None
    assert stored_decode("decode: {keep: 2, bin: 1}\nkey_of_tomorrow: 3\n") == Decode(keep=2, bin=1)


@pytest.mark.parametrize("text", ["decode: {keep: 1, bin: 1}", "decode: {keep: 4}", "decode: 3", "decode: {a: 1}", "-"])
def test_a_stored_method_that_cannot_be_told_is_not_guessed_at(text: str) -> None:
    with pytest.raises(CorruptFileError, match="the method of the context:1:"):
        stored_decode(text)
