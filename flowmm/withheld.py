"""Provenance for a file that says nothing of where it came from: what is needed to load it safely, and figures."""

from __future__ import annotations

from dataclasses import replace

from flowmm.decode import stored_decode
from flowmm.profiles import Kind, is_shipped
from flowmm.records import Compression, Provenance
from flowmm.yamlfile import dump

OWN = "own"  # stands for the name of a method or profile that was not shipped


def without_provenance(made: Provenance) -> Provenance:
    """Leave out names, hashes, pages, texts and times.

    What stays: the model's identity (a local folder's name gives way to the model's type), the probe, digests of what
    further passes asked, flow and figures of the compression, names of shipped methods and profiles, and of the
    method's text the section that answers need.
    Profiles name the documents that they were measured on, and YAML may hold comments; so neither text stays.
    """
    model = replace(made.model, id=made.model.model_type) if made.model.local else made.model
    compression = None if made.compression is None else _bare(made.compression)
    return Provenance(model, (), flow=made.flow, compression=compression, probe=made.probe, passes=made.passes)


def _bare(made: Compression) -> Compression:
    decode = stored_decode(made.method_text)
    return replace(
        made,
        method=_named("methods", made.method),
        method_text=dump({} if decode is None else {"decode": decode.model_dump()}),
        profile=_named("models", made.profile),
        profile_text="",
    )


def _named(kind: Kind, name: str) -> str:
    return name if is_shipped(kind, name) else OWN
