"""Trains the reader from scratch: ``python -m flowmm.reader.train --stage joint --minutes 60 --out runs/joint``.

The first two stages are independent and can run side by side; the third starts from both (see README.md).
"""

import argparse
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

from flowmm.hf.reader_model import Architecture, export
from flowmm.reader import curriculum, heads
from flowmm.reader.batches import draw_batch
from flowmm.reader.curriculum import Progress
from flowmm.reader.growth import grown
from flowmm.reader.network import Outcome, Trainee

_WARM_UP = 40  # steps
_CLIP = 1.0
_SAVE_EVERY = 60.0  # seconds
_LOG_EVERY = 20.0


@dataclass(frozen=True)
class Plan:
    """The settings of a run."""

    out: Path
    minutes: float
    stage: str = "joint"
    start: tuple[Path, ...] = ()
    resume: bool = False
    export: Path | None = None
    export_every: float = 10.0  # minutes
    device: str = "cpu"
    processes: int = 1
    tokens: int = 4000  # per process and step
    rate: float = 2e-3
    decay: float = 0.4  # last share of the run, over which the rate falls to nothing
    seed: int = 0


@dataclass
class Clock:
    """How far a run has come; goes into the checkpoint."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)

    def note(self, name: str, score: float) -> None:
        """Take a score of the last step into its running mean."""
        self.scores[name] = 0.9 * self.scores.get(name, score) + 0.1 * score


def _optimizers(net: Trainee, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for everything else."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in net.named_parameters():
        layer = name.startswith("model.") and parameter.ndim == 2 and "embed_tokens" not in name
        (matrices if layer else others).append(parameter)
    return [
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
        torch.optim.Muon(matrices, lr=rate, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
    ]


def _rate(plan: Plan, clock: Clock) -> float:
    left = max(0.0, 1 - clock.seconds / (plan.minutes * 60))
    falling = min(1.0, max(0.02, left / plan.decay)) if plan.decay else 1.0
    return plan.rate * min(1.0, (clock.step + 1) / _WARM_UP) * falling


def _average(net: nn.Module, numbers: list[float]) -> list[float]:
    """Average the gradients and ``numbers`` over all processes, in one exchange."""
    if not dist.is_initialized():
        return numbers
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    flat = torch.cat([*(g.flatten() for g in gradients), gradients[0].new_tensor(numbers)])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = torch.split(flat, [*(g.numel() for g in gradients), len(numbers)])
    for gradient, part in zip(gradients, parts, strict=False):
        gradient.copy_(part.view_as(gradient))
    averaged: list[float] = parts[-1].tolist()
    return averaged


class Run:
    """One process of a training run."""

    def __init__(self, plan: Plan, rank: int) -> None:
        self.plan, self.rank = plan, rank
        self.net = Trainee(Architecture(), plan.seed).to(plan.device)
        self.optimizers = _optimizers(self.net, plan.rate)
        self.progress, self.clock = Progress(), Clock()
        self.state = plan.out / "state.pt"
        for path in plan.start:
            self._take(heads.restored(path) if path.is_dir() else torch.load(path, map_location=plan.device))
        if plan.resume and self.state.exists():
            self._restore(torch.load(self.state, map_location=plan.device))
        self.data = Random(f"{plan.seed}/{rank}/{self.clock.step}")

    def _take(self, saved: dict[str, object]) -> None:
        """Take what ``saved`` trained: the vision side of a reading run, the language side of a text run, else all."""
        stage, weights = saved["stage"], saved["net"]
        assert isinstance(weights, dict)
        vision = ("model.model.visual.", "characters.", "cell_")
        have = self.net.state_dict()
        if stage in ("text", "reading"):
            wanted = stage == "reading"
            weights = {k: v for k, v in weights.items() if k.startswith(vision) == wanted}
            have = {k: v for k, v in have.items() if k.startswith(vision) == wanted}
        self.net.load_state_dict(grown(weights, have), strict=False)
        levels = Progress(**saved["progress"]).levels  # type: ignore[arg-type]
        for track in self.progress.levels:
            self.progress.levels[track] = max(levels.get(track, 0), self.progress.levels[track])

    def _restore(self, saved: dict[str, object]) -> None:
        self.net.load_state_dict(saved["net"])  # type: ignore[arg-type]
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):  # type: ignore[call-overload]
            optimizer.load_state_dict(state)
        known = Progress(**saved["progress"])  # type: ignore[arg-type]
        self.progress.levels.update(known.levels)
        self.progress.shares.update(known.shares)
        self.clock = Clock(**saved["clock"])  # type: ignore[arg-type]

    def save(self) -> None:
        """Write the checkpoint atomically; the processes hold equal weights, so the first one writes."""
        if self.rank:
            return
        saved = {
            "stage": self.plan.stage,
            "net": self.net.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": asdict(self.progress),
            "clock": asdict(self.clock),
        }
        fresh = self.state.with_suffix(".new")
        torch.save(saved, fresh)
        os.replace(fresh, self.state)

    def export(self) -> None:
        """Write the weights as they are now, if the plan says where."""
        if not self.rank and self.plan.export:
            export(self.net.model, self.plan.export)
            heads.keep(self.net, self.progress, heads.path_of(self.plan.export))

    def log(self, text: str) -> None:
        """Add a line to the log."""
        if not self.rank:
            with (self.plan.out / "log.txt").open("a") as file:
                file.write(f"{self.clock.seconds:6.0f}s step {self.clock.step} {text}\n")

    def _report(self) -> None:
        speed = self.clock.tokens / max(1.0, self.clock.seconds)
        tracks = curriculum.STAGES[self.plan.stage]
        levels = " ".join(f"{t}[{self.progress.levels[t]}] {self.progress.shares[t]:.2f}" for t in tracks)
        scores = " ".join(f"{name} {score:.2f}" for name, score in sorted(self.clock.scores.items()))
        self.log(
            f"{self.clock.tokens / 1e6:.2f}M tokens {speed:.0f}/s "
            f"rate {_rate(self.plan, self.clock):.1e} | {levels} | {scores}"
        )

    def _note(self, outcome: Outcome, track: str, kinds: list[str]) -> None:
        for name, score in outcome.scores.items():
            self.clock.note(name, score)
        for kind in set(kinds):
            right = [e for e, k in zip(outcome.exact, kinds, strict=True) if k == kind]
            self.clock.note(f"{track}.{kind}", sum(right) / len(right))

    def step(self) -> None:
        """One update; all processes draw the same layout, each its own contexts."""
        began = time.monotonic()
        shared = Random(f"{self.plan.seed}/{self.clock.step}")
        track, level, layout = self.progress.draw(shared, self.plan.stage)
        number = max(1, round(self.plan.tokens / curriculum.cost(layout)))
        batch = draw_batch(self.data, layout, number)
        language = track != curriculum.READING
        drawn = time.monotonic() - began
        outcome = self.net.outcome(batch, language=language)
        outcome.loss.backward()  # type: ignore[no-untyped-call]
        share = sum(outcome.exact) / len(outcome.exact) if language else outcome.scores["cell"]
        seconds = time.monotonic() - began
        share, seconds = _average(self.net, [share, seconds])
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = _rate(self.plan, self.clock)
        nn.utils.clip_grad_norm_(self.net.parameters(), _CLIP)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.clock.step += 1
        self.clock.tokens += batch.ids.size * self.plan.processes
        self._note(outcome, track, [asked.kind for asked in batch.asked] if language else [])
        self.clock.note("drawing", drawn / seconds)
        if self.progress.record(track, level, share):
            self.log(f"{track} rises to level {level + 1}")

    def go(self) -> None:
        """Train until the time is up; saving and exporting on the way."""
        start = time.monotonic() - self.clock.seconds
        saved = logged = exported = self.clock.seconds
        while self.clock.seconds < self.plan.minutes * 60:
            self.step()
            self.clock.seconds = self._agree(time.monotonic() - start)
            if self.clock.seconds - logged > _LOG_EVERY:
                logged = self.clock.seconds
                self._report()
            if self.clock.seconds - saved > _SAVE_EVERY:
                saved = self.clock.seconds
                self.save()
            if self.clock.seconds - exported > self.plan.export_every * 60:
                exported = self.clock.seconds
                self.export()
        self.save()
        self.export()

    @staticmethod
    def _agree(seconds: float) -> float:
        """The first process's clock, so that all stop at the same step."""
        if not dist.is_initialized():
            return seconds
        shared = torch.tensor([seconds], dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared.item())


def _work(rank: int, plan: Plan) -> None:
    torch.set_num_threads(1 if plan.processes > 1 else torch.get_num_threads())
    if plan.processes > 1:
        address = f"file://{plan.out.resolve()}/meeting"
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=plan.processes)
    Run(plan, rank).go()


def _parse() -> Plan:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint and log")
    parser.add_argument("--minutes", type=float, required=True, help="of the whole run, resumed or not")
    parser.add_argument("--stage", choices=sorted(curriculum.STAGES), default=Plan.stage)
    parser.add_argument("--start", type=Path, nargs="*", default=(), help="checkpoints of others, or exported weights")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--export", type=Path, help="folder for the weights, in Hugging Face format")
    parser.add_argument("--export-every", type=float, default=Plan.export_every, help="minutes")
    parser.add_argument("--device", default=Plan.device)
    parser.add_argument("--processes", type=int, default=Plan.processes)
    parser.add_argument("--tokens", type=int, default=Plan.tokens, help="per process and step")
    parser.add_argument("--rate", type=float, default=Plan.rate)
    parser.add_argument("--decay", type=float, default=Plan.decay)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    options = vars(parser.parse_args())
    return Plan(**{**options, "start": tuple(options["start"])})


def main() -> None:
    """Train as the command line says."""
    plan = _parse()
    plan.out.mkdir(parents=True, exist_ok=True)
    (plan.out / "meeting").unlink(missing_ok=True)
    if plan.processes == 1:
        _work(0, plan)
    else:
        spawn(_work, args=(plan,), nprocs=plan.processes)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
