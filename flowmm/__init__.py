"""Read a multimodal context once, keep a small merged KV cache in a file, ask it many questions.

Names are imported when they are first used, so that ``from flowmm import read_header`` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowmm.asking import Opened as Opened
    from flowmm.asking import Question as Question
    from flowmm.asking import ask_file as ask_file
    from flowmm.asking import ask_files as ask_files
    from flowmm.bench.bytes import BytesOptions as BytesOptions
    from flowmm.bench.bytes import bench_bytes as bench_bytes
    from flowmm.bench.bytes_report import BytesReport as BytesReport
    from flowmm.bench.cost import bench_cost as bench_cost
    from flowmm.bench.cost_report import CostReport as CostReport
    from flowmm.bench.kill import KillReport as KillReport
    from flowmm.bench.kill import bench_kill as bench_kill
    from flowmm.bench.load import bench_load as bench_load
    from flowmm.bench.load_report import LoadReport as LoadReport
    from flowmm.bench.make import MadeSuite as MadeSuite
    from flowmm.bench.make import make_suite as make_suite
    from flowmm.bench.mutate import bench_mutate as bench_mutate
    from flowmm.bench.mutate_report import MutateReport as MutateReport
    from flowmm.bench.quality import bench_quality as bench_quality
    from flowmm.bench.quality_order import OrderReport as OrderReport
    from flowmm.bench.quality_order import bench_order as bench_order
    from flowmm.bench.quality_plan import QualityOptions as QualityOptions
    from flowmm.bench.quality_report import QualityReport as QualityReport
    from flowmm.bench.refit import bench_refit as bench_refit
    from flowmm.bench.refit_report import RefitReport as RefitReport
    from flowmm.bench.speed import bench_speed as bench_speed
    from flowmm.bench.speed_report import SpeedReport as SpeedReport
    from flowmm.calibrate import calibrate_model as calibrate_model
    from flowmm.checks import check_file as check_file
    from flowmm.demo import Demo as Demo
    from flowmm.demo import run_demo as run_demo
    from flowmm.doctor import examine as examine
    from flowmm.errors import BatchError as BatchError
    from flowmm.errors import CorruptFileError as CorruptFileError
    from flowmm.errors import FlowmmError as FlowmmError
    from flowmm.errors import InputError as InputError
    from flowmm.errors import MismatchError as MismatchError
    from flowmm.errors import ResourceError as ResourceError
    from flowmm.errors import UnknownNameError as UnknownNameError
    from flowmm.errors import UnsupportedModelError as UnsupportedModelError
    from flowmm.errors import UsageError as UsageError
    from flowmm.header import Header as Header
    from flowmm.header import read_header as read_header
    from flowmm.inputs.options import ReadOptions as ReadOptions
    from flowmm.listing import ListedFile as ListedFile
    from flowmm.listing import Listing as Listing
    from flowmm.listing import in_order as in_order
    from flowmm.listing import list_files as list_files
    from flowmm.pipeline import CompressOptions as CompressOptions
    from flowmm.pipeline import compress_file as compress_file
    from flowmm.pipeline import prefill_file as prefill_file
    from flowmm.pipeline import verify_file as verify_file
    from flowmm.profiles import ModelProfile as ModelProfile
    from flowmm.profiles import load_method as load_method
    from flowmm.profiles import load_profile as load_profile
    from flowmm.profiles import method_names as method_names
    from flowmm.profiles import profile_names as profile_names
    from flowmm.pruning import PrunePlan as PrunePlan
    from flowmm.pruning import plan_prune as plan_prune
    from flowmm.pruning import prune as prune
    from flowmm.records import Answer as Answer
    from flowmm.records import Generation as Generation
    from flowmm.records import ModelOptions as ModelOptions
    from flowmm.schemas import method_schema as method_schema
    from flowmm.schemas import profile_schema as profile_schema
    from flowmm.sessions import Session as Session

_NAMES = {
    "asking": ("Opened", "Question", "ask_file", "ask_files"),
    "bench.bytes": ("BytesOptions", "bench_bytes"),
    "bench.bytes_report": ("BytesReport",),
    "bench.cost": ("bench_cost",),
    "bench.cost_report": ("CostReport",),
    "bench.kill": ("KillReport", "bench_kill"),
    "bench.load": ("bench_load",),
    "bench.load_report": ("LoadReport",),
    "bench.make": ("MadeSuite", "make_suite"),
    "bench.mutate": ("bench_mutate",),
    "bench.mutate_report": ("MutateReport",),
    "bench.quality": ("bench_quality",),
    "bench.quality_order": ("OrderReport", "bench_order"),
    "bench.quality_plan": ("QualityOptions",),
    "bench.quality_report": ("QualityReport",),
    "bench.refit": ("bench_refit",),
    "bench.refit_report": ("RefitReport",),
    "bench.speed": ("bench_speed",),
    "bench.speed_report": ("SpeedReport",),
    "calibrate": ("calibrate_model",),
    "checks": ("check_file",),
    "demo": ("Demo", "run_demo"),
    "doctor": ("examine",),
    "errors": (
        "BatchError",
        "CorruptFileError",
        "FlowmmError",
        "InputError",
        "MismatchError",
        "ResourceError",
        "UnknownNameError",
        "UnsupportedModelError",
        "UsageError",
    ),
    "header": ("Header", "read_header"),
    "inputs.options": ("ReadOptions",),
    "listing": ("ListedFile", "Listing", "in_order", "list_files"),
    "pipeline": (
        "CompressOptions",
        "compress_file",
        "prefill_file",
        "verify_file",
    ),
    "profiles": ("ModelProfile", "load_method", "load_profile", "method_names", "profile_names"),
    "pruning": ("PrunePlan", "plan_prune", "prune"),
    "records": ("Answer", "Generation", "ModelOptions"),
    "schemas": ("method_schema", "profile_schema"),
    "sessions": ("Session",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'flowmm' has no attribute {name!r}")
    return getattr(import_module(f"flowmm.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
