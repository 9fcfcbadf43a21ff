"""A decode step as one CUDA graph: a replay launches all its kernels at once.

No GPU was at hand when this was written: the CUDA calls in :func:`cuda_graph` have never run. Everything around them
is tested with a stand-in for it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flowmm.errors import UsageError
from flowmm.hf.decoding import Decoder

Work = Callable[[], Tensor]
_WARM = 2  # runs before the capture, in which libraries choose kernels and take their workspaces


def check_graphs(device: torch.device) -> None:
    """Raise UsageError where there are no CUDA graphs."""
    if device.type != "cuda":
        raise UsageError(f"CUDA graphs were asked for on {device.type}", "Leave them off, or use --device cuda.")


def cuda_graph(work: Work) -> Work:
    """Capture ``work``, whose tensors have fixed places and shapes and which never waits for the GPU.

    Returns:
        What runs it again; the result is in the same place every time, so it is to be used before the next run.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = work()

    def replay() -> Tensor:
        graph.replay()
        return found

    return replay


class CapturedStep:
    """Stands in for :meth:`Decoder.step`. All rows run every time; those that nobody waits for write into padding."""

    @torch.inference_mode()  # as the tails are made in
    def __init__(self, decoder: Decoder, batch: int, device: torch.device, capture: Callable[[Work], Work]) -> None:
        """Args:
        decoder: with a :class:`flowmm.hf.tail.GrowingTail` of fixed shape that has taken in a question already.
        batch: its rows.
        device: of the model; all of it is on one.
        capture: :func:`cuda_graph`.
        """
        self._token_ids = torch.zeros(batch, dtype=torch.int64, device=device)
        before = [counter.clone() for counter in decoder.counters()]
        self._replay = capture(lambda: decoder.step(self._token_ids))
        # What the runs before the capture wrote lies behind the ends of the rows, and will be written over.
        for counter, value in zip(decoder.counters(), before, strict=True):
            counter.copy_(value)

    @torch.inference_mode()
    def __call__(self, token_ids: Tensor) -> Tensor:
        """``[b]`` token ids of the first rows -> ``[b, V]`` logits, which the next call overwrites."""
        self._token_ids[: token_ids.shape[0]] = token_ids
        return self._replay()[: token_ids.shape[0]]
