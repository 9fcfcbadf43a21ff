"""`flowmm compress`: a full context file to a small one, without the documents."""

from flowmm_cli import options as o
from flowmm_cli import output, summary


def compress(
    source: o.ContextFile,
    output_file: o.Output,
    keep: o.Keep = None,
    keep_tokens: o.KeepTokens = None,
    max_bytes: o.MaxBytes = None,
    reduce: o.Reduce = None,
    method: o.Method = None,
    quality: o.Quality = None,
    min_agreement: o.MinAgreement = None,
    profile: o.Profile = None,
    kv_dtype: o.KvDtype = None,
    model: o.ModelOfFile = None,
    device: o.Device = "auto",
    seed: o.Seed = 0,
    force: o.Force = False,
    no_provenance: o.NoProvenance = False,
    json: o.Json = False,
    stats: o.Stats = False,
    quiet: o.Quiet = False,
) -> None:
    """Make a small context file from a full one.

    The full file is what `prefill --no-compress` writes. The documents are not needed, and the model only for
    `--min-agreement`: -m says where it is, the file which one.
    """
    from flowmm import ModelOptions, compress_file

    compression = o.compress_options(
        keep,
        keep_tokens,
        method,
        profile,
        seed,
        max_bytes=max_bytes,
        reduce=reduce,
        quality=quality,
        min_agreement=min_agreement,
    )
    with output.progress_bar(wanted=not quiet) as progress:
        header = compress_file(
            source,
            output_file,
            compression=compression,
            model=ModelOptions(model, device=device),
            kv_dtype=kv_dtype,
            force=force,
            provenance=not no_provenance,
            progress=progress,
        )
    summary.show(output_file, header, json=json, stats=stats, quiet=quiet)
