"""Training goes on from exported weights and the heads beside them."""

from pathlib import Path

import pytest
import torch

from flowmm.hf.reader_model import Architecture, export
from flowmm.reader import heads
from flowmm.reader.curriculum import Progress
from flowmm.reader.network import Trainee
from flowmm.reader.train import Plan, Run


def test_a_run_goes_on_from_exported_weights(tmp_path: Path) -> None:
    net, weights = Trainee(Architecture(), 3), tmp_path / "weights"
    progress = Progress()
    progress.levels["chains"] = 4
    export(net.model, weights)
    heads.keep(net, progress, heads.path_of(weights))
    run = Run(Plan(out=tmp_path, minutes=0, stage="wider", start=(weights,)), rank=0)
    for name, tensor in run.net.state_dict().items():
        torch.testing.assert_close(tensor, net.state_dict()[name].bfloat16().float(), rtol=0, atol=0, msg=name)
    assert run.progress.levels["chains"] == 4
    assert run.progress.levels["text"] == 0


def test_weights_without_heads_are_no_start(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    export(Trainee(Architecture(), 3).model, weights)
    with pytest.raises(FileNotFoundError):
        heads.restored(weights)
