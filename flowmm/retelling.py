"""How far a small cache is from the full one when the text of its context is told again: the next tokens of both."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowmm.context import ContextCache, Modality, Prompt
from flowmm.hf.decoding import Decoder, placed
from flowmm.hf.loading import LoadedModel
from flowmm.hf.prompt import question_ids
from flowmm.hf.rows import padded_rows
from flowmm.observing import Reconstruct

_REQUEST = Reconstruct().next
_WINDOWS = 24  # at most
_START = 8  # tokens that name a window
_TOLD = 32  # tokens of it that follow
_COMPARED = 192  # tokens of all windows, at most
_SIDE_BY_SIDE = 4  # windows; bounds the logits in memory


@dataclass(frozen=True)
class Retelling:
    """Windows of a context's text, and what the full cache expects where it expects most by the context."""

    loaded: LoadedModel
    token_ids: Tensor  # [B, n] int64: requests, then the windows, padded on the left
    real: Tensor  # [B, n] bool
    compared: Tensor  # [B, _TOLD] bool, of the columns before the last, the tokens behind which are compared
    expected: Tensor  # [M, V] float32, log-probabilities of the full cache there
    without: float  # mean divergence there when nothing is kept but what always is

    @classmethod
    def of(cls, prompt: Prompt, full: ContextCache, without: ContextCache, loaded: LoadedModel) -> Retelling | None:
        """Draw windows evenly over the text, and read them behind the full cache.

        Compared are the tokens that are expected most otherwise without the context: the others follow from the words
        before them, whatever is kept.

        Args:
            prompt: the context.
            full: its cache.
            without: what is left of it when nothing is kept but what always is.
            loaded: the model.

        Returns:
            None where there is not text enough for a window, or the context makes no difference to it.
        """
        text = prompt.token_ids[prompt.modality == Modality.TEXT].tolist()
        length = _START + _TOLD
        if len(text) < length:
            return None
        count = min(_WINDOWS, len(text) // length)
        starts = [round(number * (len(text) - length) / max(1, count - 1)) for number in range(count)]
        rows = []
        for start in starts:
            named = loaded.tokenizer.decode(text[start : start + _START], skip_special_tokens=True).strip()
            rows.append(question_ids(_REQUEST.format(start=named), loaded) + text[start : start + length])
        told = cls(
            loaded, *padded_rows(rows, left=True), torch.ones(count, _TOLD, dtype=torch.bool), torch.zeros(0), 0.0
        )
        apart = torch.cat([_divergence(*both) for both in zip(told._heard(full), told._heard(without), strict=True)])
        most = apart.topk(min(_COMPARED, apart.numel()))
        compared = torch.zeros(count * _TOLD, dtype=torch.bool)
        compared[most.indices] = True
        told = replace(told, compared=compared.view(count, _TOLD), without=float(most.values.mean()))
        return None if told.without <= 0 else replace(told, expected=torch.cat(told._heard(full)))

    def lost(self, small: ContextCache) -> float:
        """Mean Kullback-Leibler divergence of the small cache's next tokens from the full one's, over ``without``."""
        return float(_divergence(self.expected, torch.cat(self._heard(small))).mean()) / self.without

    def _heard(self, cache: ContextCache) -> list[Tensor]:
        """``[m, V]`` log-probabilities behind the tokens that are compared, a few windows at a time."""
        ready, found = placed(cache, self.loaded), []
        for first in range(0, self.token_ids.shape[0], _SIDE_BY_SIDE):
            rows = slice(first, first + _SIDE_BY_SIDE)
            ids = self.token_ids[rows]
            logits = Decoder(self.loaded, ready, *ids.shape).feed_columns(ids, self.real[rows], _TOLD + 1)[:, :-1]
            found.append(logits[self.compared[rows].to(logits.device)].log_softmax(-1))
        return found


def _divergence(expected: Tensor, found: Tensor) -> Tensor:
    """``[m]`` of log-probabilities ``[m, V]``."""
    return (expected.exp() * (expected - found)).sum(-1).cpu()
