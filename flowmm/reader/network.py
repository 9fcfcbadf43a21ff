"""The reader with its training-only heads, and the losses of a batch.

The heads carry the training over its plateaus: characters, key and value on the vision tower's output, the letters of
the key, and of the one that a statement leads to, inside the language model, and supervised attention heads. None of
them is exported.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from flowmm.hf.reader_model import Architecture, build, vision_rotation
from flowmm.reader import forward
from flowmm.reader.batches import (
    KEY_LETTERS,
    LETTER_CLASSES,
    NAME_LETTERS,
    VALUE_CLASSES,
    VALUE_LETTERS,
    Batch,
)
from flowmm.reader.forward import Looks
from flowmm.reader.pages import CELL, CHARACTERS, LINES, SLOTS

MIDDLE, LEADING = 2, 3  # the layers whose input the heads for the key, and for the one led to, read
_SPELLS = {MIDDLE: "name", LEADING: "led"}
# Layer and query head that are told what to look at, by what that is (see ``Batch.looks``), and whether evenly.
_TOLD = {"above": (1, 0, False), "value": (2, 0, False), "then": (3, 0, False), "count": (2, 2, True)}
# Most slots are empty, so the mean over them is small; and what a cell alone cannot tell should not outweigh it.
_CHARACTERS, _NAME, _VALUE = 4.0, 0.1, 0.5
_EMPTY_SHARE = 0.2  # of the empty cells that the character loss looks at


@dataclass(frozen=True)
class Outcome:
    """Loss and scores of a batch; ``exact`` tells for each question whether the whole answer was right."""

    loss: Tensor
    exact: tuple[bool, ...]
    scores: dict[str, float]


def _spelled(logits: Tensor, target: Tensor, classes: int) -> tuple[Tensor, float]:
    """Cross entropy of ``[N, letters * classes]`` against ``[N, letters]``, and the share spelled in full."""
    shaped = logits.float().view(*target.shape, classes)
    right = (shaped.argmax(-1) == target).all(-1).float().mean().item()
    return F.cross_entropy(shaped.flatten(0, 1), target.flatten()), right


class Trainee(nn.Module):
    """The reader and its heads."""

    def __init__(self, size: Architecture, seed: int) -> None:
        super().__init__()
        self.model = build(size, seed)
        self.characters = nn.Linear(size.hidden, LINES * SLOTS * len(CHARACTERS))
        self.cell_name = nn.Linear(size.hidden, NAME_LETTERS * LETTER_CLASSES)
        self.cell_value = nn.Linear(size.hidden, VALUE_LETTERS * VALUE_CLASSES)
        self.name = nn.Linear(size.hidden, NAME_LETTERS * LETTER_CLASSES)
        self.led = nn.Linear(size.hidden, KEY_LETTERS * LETTER_CLASSES)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.characters.weight.device

    def _move(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def see(self, batch: Batch) -> Tensor:
        """``[P, cells, D]`` embeddings of the batch's pages."""
        rows, columns = batch.pixels.shape[1] // CELL, batch.pixels.shape[2] // CELL
        rotation = vision_rotation(self.model, rows, columns)
        return forward.see(self.model.model.visual, self._move(batch.pixels), rotation).float()

    def page_loss(self, seen: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Characters of each cell; key and value at the cells that show a value."""
        labels = self._move(batch.labels.astype(np.int64)).flatten(2).flatten(0, 1)
        normed = F.rms_norm(seen, (seen.shape[-1],)).flatten(0, 1)
        busy = (labels > 0).any(-1)
        chosen = busy | (torch.rand(busy.shape, device=busy.device) < _EMPTY_SHARE)
        logits = self.characters(normed[chosen]).view(*labels[chosen].shape, -1)
        loss = F.cross_entropy(logits.flatten(0, 1), labels[chosen].flatten())
        right = (logits.argmax(-1) == labels[chosen]).all(-1)
        scores = {"cell": right[busy[chosen]].float().mean().item()}
        cells = normed[self._move(batch.cells)]
        name = self._move(batch.names[len(batch.names) - len(batch.cells) :])
        name_loss, _ = _spelled(self.cell_name(cells), name, LETTER_CLASSES)
        value_loss, scores["value"] = _spelled(self.cell_value(cells), self._move(batch.values), VALUE_CLASSES)
        return _CHARACTERS * loss + _NAME * name_loss + _VALUE * value_loss, scores

    def answer(self, batch: Batch, seen: Tensor | None, *, train: bool) -> tuple[Tensor, forward.TextOutput]:
        """Logits ``[A, V]`` of the answer tokens, with what the language model gave."""
        model = self.model.model.language_model
        ids = self._move(batch.ids)
        embedded = F.embedding(ids, model.embed_tokens.weight)
        if seen is not None:
            flat = embedded.flatten(0, 1).index_copy(0, self._move(batch.pads), seen.flatten(0, 1))
            embedded = flat.view_as(embedded)
        lengths = self._move(batch.lengths)
        looks = {
            name: Looks(*_TOLD[name], self._move(look.source), self._move(look.target), lengths)
            for name, look in batch.looks.items()
            if train and look.source.shape[1]
        }
        output = forward.read_text(model, embedded, self._move(batch.positions), looks, given=(MIDDLE, LEADING))
        states = output.last.flatten(0, 1)[self._move(batch.predicts)]
        weight = model.embed_tokens.weight.to(states.dtype)
        return F.linear(states, weight).float(), output

    def outcome(self, batch: Batch, *, language: bool = True, train: bool = True) -> Outcome:
        """Losses of a batch; of its pages alone where ``language`` is off."""
        seen = self.see(batch) if len(batch.pixels) else None
        loss = torch.zeros((), device=self.device)
        scores: dict[str, float] = {}
        if seen is not None and train:
            loss, scores = self.page_loss(seen, batch)
        if not language:
            return Outcome(loss, (), scores)
        logits, output = self.answer(batch, seen, train=train)
        targets = self._move(batch.targets)
        answer_loss = F.cross_entropy(logits, targets)
        scores["answer"] = answer_loss.item()
        loss = loss + answer_loss
        if train:
            heads = ((MIDDLE, self.name, batch.named, batch.names), (LEADING, self.led, batch.led, batch.led_to))
            for layer, head, places, letters in heads:
                if len(places):
                    states = output.given[layer].flatten(0, 1)[self._move(places)]
                    states = F.rms_norm(states, (states.shape[-1],)).float()
                    missed, scores[_SPELLS[layer]] = _spelled(head(states), self._move(letters), LETTER_CLASSES)
                    loss = loss + missed
        for name, missed in output.look_losses.items():
            scores[name] = missed.item()
            loss = loss + 0.5 * missed
        right = (logits.argmax(-1) == targets).cpu().numpy()
        exact = np.ones(len(batch.asked), bool)
        np.logical_and.at(exact, batch.question, right)
        return Outcome(loss, tuple(exact.tolist()), scores)
