"""Rows of different lengths as one batch."""

import torch

from flowmm.hf.rows import padded_rows


def test_rows_are_padded_on_the_side_that_is_asked_for():
    rows = [[7], [1, 2, 3]]
    token_ids, real = padded_rows(rows)
    assert token_ids.tolist() == [[7, 0, 0], [1, 2, 3]]
    assert real.tolist() == [[True, False, False], [True] * 3]
    token_ids, real = padded_rows(rows, left=True)
    assert token_ids.tolist() == [[0, 0, 7], [1, 2, 3]]
    assert real.tolist() == [[False, False, True], [True] * 3]
    assert token_ids.dtype == torch.int64
