from __future__ import annotations

import math

import pytest
import torch

from flowmm.hf.attention import join, partial_attention


def test_attention_over_two_shares_of_the_slots_joins_to_attention_over_all() -> None:
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (torch.randn(2, n, 4, generator=generator) for n in (3, 9, 9))
    whole = torch.softmax(query @ keys.transpose(1, 2) * 0.5, -1) @ values
    first = partial_attention(query, keys[:, :5], values[:, :5], 0.5, None)
    second = partial_attention(query, keys[:, 5:], values[:, 5:], 0.5, None)
    torch.testing.assert_close(join(first, second), whole)


def test_a_row_that_sees_no_slot_adds_nothing() -> None:
    query, keys, values = torch.ones(1, 2, 4), torch.ones(1, 3, 4), torch.ones(1, 3, 4)
    bias = torch.tensor([[[-math.inf] * 3, [0.0] * 3]])
    output, total = partial_attention(query, keys, values, 1.0, bias)
    assert output[0, 0].tolist() == [0.0] * 4
    assert total[0, 0] == -math.inf
    joined = join((output, total), partial_attention(query, keys, values * 5, 1.0, None))
    torch.testing.assert_close(joined, torch.tensor([[[5.0] * 4, [3.0] * 4]]))


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    query, keys, values = torch.randn(2, 7, 4), torch.randn(2, 9, 4), torch.randn(2, 9, 4)
    bias = torch.randn(2, 7, 9)
    whole = partial_attention(query, keys, values, 0.5, bias)
    monkeypatch.setattr("flowmm.blocks.MAX_BYTES", 4 * 2 * 9 * 3)  # three rows a block
    torch.testing.assert_close(partial_attention(query, keys, values, 0.5, bias), whole)


def test_no_slots_at_all_are_nothing() -> None:
    output, total = partial_attention(torch.ones(1, 2, 4), torch.ones(1, 0, 4), torch.ones(1, 0, 4), 1.0, None)
    assert output.tolist() == [[[0.0] * 4] * 2]
    assert total.tolist() == [[-math.inf] * 2]


def test_log_two_weighs_a_slot_twice() -> None:
    query, keys = torch.zeros(1, 1, 2), torch.zeros(1, 2, 2)
    values = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    bias = torch.tensor([[[math.log(2.0), 0.0]]])
    output, _ = partial_attention(query, keys, values, 1.0, bias)
    torch.testing.assert_close(output, torch.tensor([[[2 / 3, 1 / 3]]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_many_equal_weights_do_not_overflow(dtype):
    query, keys = torch.zeros(1, 1, 4, dtype=dtype), torch.zeros(1, 40_000, 4, dtype=dtype)
    output, total = partial_attention(query, keys, torch.full_like(keys, 2.0), 1.0, None)
    torch.testing.assert_close(output, torch.full((1, 1, 4), 2.0), rtol=1e-2, atol=0)
    torch.testing.assert_close(total, torch.tensor([[40_000.0]]).log())
