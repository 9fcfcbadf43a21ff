"""The values without tensors: where things came from and what was done to them. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Source:
    """Where a part came from: file name (no folder), sha256 of the file's bytes, 1-based page if it has pages."""

    name: str
    sha256: str
    kind: str
    page: int | None = None


@dataclass(frozen=True)
class Part:
    """One piece of the context: text (``str``) or an image (RGB ``PIL.Image``)."""

    kind: Literal["text", "image"]
    payload: str | Image
    source: Source


@dataclass(frozen=True)
class Span:
    """The tokens ``[start, end)`` of the context that a part became."""

    source: Source
    start: int
    end: int


@dataclass(frozen=True)
class LayerFlow:
    """How much attention mass of one layer crosses between modalities (FlowMM, arXiv 2511.05534, eq. for rho).

    All are shares of the layer's attention mass, averaged over heads; ``*_without_sinks`` leave the mass on the first
    ``NUM_SINKS`` keys out of both numerator and denominator.
    """

    visual_to_text: float  # mass that visual queries put on text keys
    text_to_visual: float
    visual_to_text_without_sinks: float
    text_to_visual_without_sinks: float

    @property
    def rho(self) -> float:
        """The paper's flow: both directions together."""
        return self.visual_to_text + self.text_to_visual

    @property
    def rho_without_sinks(self) -> float:
        """The same without the sinks."""
        return self.visual_to_text_without_sinks + self.text_to_visual_without_sinks


@dataclass(frozen=True)
class ModelIdentity:
    """What a file must be reloaded with. Hashes are hex strings."""

    id: str  # hub id, "flowmm/reader", or the name of a local folder
    revision: str | None
    local: bool
    model_type: str
    weights: str
    config: str
    tokenizer: str
    template: str
    processor: str | None
    dtype: str  # what the model was run in: bfloat16, float16, float32


@dataclass(frozen=True)
class LayerRecord:
    """How one layer was treated; what ``inspect`` shows."""

    strategy: str | None  # "intra", "cross", or None when the method does not tell layers apart
    flow: LayerFlow | None
    kept: Mapping[str, int]  # living slots by modality name, all heads together
    merged: int  # evicted slots that went into another one, all heads together
    error_evicted: float | None = None  # before a refit, on held-out queries, mean over heads; None: no refit
    error_refitted: float | None = None  # after it
    heads_refitted: int | None = None  # heads that the refit brought nearer; the others are as they were


@dataclass(frozen=True)
class LayerLoss:
    """What held-out queries miss in a layer. Errors are of the attention output, relative to it, mean over KV heads."""

    error: float | None = None  # None: no reference queries, or none that sees a kept slot
    error_by_query: Mapping[str, float] = field(default_factory=dict)  # of the queries of each modality
    error_by_slot: Mapping[str, float] = field(default_factory=dict)  # of what the slots of each modality add
    head_consensus: float | None = None  # tokens that are some query head's favourite / query heads; low: all agree


@dataclass(frozen=True)
class Diagnostics:
    """What a compression lost, as far as it shows without questions (after arXiv 2603.01426)."""

    evicted_everywhere: float  # share of the tokens without a slot in any layer and head; merged ones have none
    evicted_everywhere_by_modality: Mapping[str, float]
    layers: tuple[LayerLoss, ...]

    @property
    def error_mean(self) -> float | None:
        """Mean error of the layers in which it is known."""
        errors = [layer.error for layer in self.layers if layer.error is not None]
        return sum(errors) / len(errors) if errors else None

    @property
    def error_by_query(self) -> dict[str, float]:
        """Mean error over the layers, by the modality of the query's token."""
        names = dict.fromkeys(name for layer in self.layers for name in layer.error_by_query)
        found = {
            name: [one.error_by_query[name] for one in self.layers if name in one.error_by_query] for name in names
        }
        return {name: sum(errors) / len(errors) for name, errors in found.items()}

    @property
    def head_consensus(self) -> float | None:
        """Mean over the layers in which it is known."""
        known = [layer.head_consensus for layer in self.layers if layer.head_consensus is not None]
        return sum(known) / len(known) if known else None

    @property
    def error_max(self) -> float | None:
        """Error of the worst layer."""
        return max((layer.error for layer in self.layers if layer.error is not None), default=None)


@dataclass(frozen=True)
class Agreement:
    """How a small cache answers held-out questions, against the answers that the full one gave."""

    questions: int
    tokens: int  # of the answers, their ends included; the full cache's own, whatever the small one would say
    sure: int  # of these, those to which the full cache gives at least 0.8; all of them where it is never sure
    top1: float  # share of those it is sure of that the small cache finds likeliest too
    kl: float  # mean of KL(full || small) at all of them, in nats
    important: int  # tokens of the context that the questions look at
    important_gone: float  # share of those without a slot in any layer and head


@dataclass(frozen=True)
class Compression:
    """What was asked of the compression and what it did."""

    method: str
    method_text: str  # the method's YAML
    profile: str
    profile_text: str
    keep_asked: float  # share of the slots
    keep_reached: float
    seed: int
    layers: tuple[LayerRecord, ...]
    diagnostics: Diagnostics | None = None
    planned: str | None = None  # what was chosen for a limit of bytes, and why
    agreement: Agreement | None = None  # None: made without the model
    trained: bool = False  # whether slots were trained through the model


@dataclass(frozen=True)
class Probe:
    """A fixed question replayed by ``verify --model``: the logits of the token after it."""

    token_ids: tuple[int, ...]
    top_ids: tuple[int, ...]
    top_logits: tuple[float, ...]


@dataclass(frozen=True)
class ScoutRecord:
    """The smaller model whose scores were taken, and how alike its heads look."""

    model: ModelIdentity
    overlap: tuple[float, ...]  # per layer of the large model, mean Jaccard overlap of its heads with the matched ones

    @property
    def overlap_mean(self) -> float:
        """Over all layers."""
        return sum(self.overlap) / max(1, len(self.overlap))


@dataclass(frozen=True)
class Provenance:
    """Where a context came from and what was done to it; all of it goes into the file's header."""

    model: ModelIdentity
    sources: tuple[Span, ...]
    flow: tuple[LayerFlow | None, ...] = ()
    compression: Compression | None = None
    probe: Probe | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str | None = None  # UTC, ISO 8601
    scout: ScoutRecord | None = None
    passes: Mapping[str, str] = field(default_factory=dict)  # in a full file: digests of what its further passes asked
    held_out: tuple[str, ...] = ()  # in a full file: questions to compare small caches by, with words of the context


@dataclass(frozen=True)
class Answer:
    """What came out for one question."""

    question: str
    text: str
    token_ids: tuple[int, ...]
    finished: str  # "stop" (end of sequence or stop string) or "length"
    tokens_reused: int  # tokens of the context that were not read again
    tokens_prefilled: int  # tokens of the question
    seconds: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "question": self.question,
            "answer": self.text,
            "finished": self.finished,
            "tokens": len(self.token_ids),
            "tokens_reused": self.tokens_reused,
            "tokens_prefilled": self.tokens_prefilled,
            "seconds": dict(self.seconds),
        }


@dataclass(frozen=True)
class Generation:
    """How answers are decoded: greedily unless ``temperature`` is above 0."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all tokens
    seed: int = 0
    stop: tuple[str, ...] = ()
    batch: int | None = None  # questions decoded side by side; None: what fits into memory
    graphs: bool = False  # on a GPU, a decode step is one CUDA graph


@dataclass(frozen=True)
class ModelOptions:
    """Which model and how to run it; the fields are the command line's flags."""

    name: str | None = None  # hub id or folder; None: FLOWMM_MODEL, else the embedded reader
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    device_map: str | None = None
    offline: bool = False
    trust_remote_code: bool = False
