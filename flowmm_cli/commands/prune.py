"""`flowmm prune`: delete the oldest context files of a folder until the others fit."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowmm import ResourceError, UsageError
from flowmm_cli import options as o
from flowmm_cli import output
from flowmm_cli.commands.ls import count, table, warn
from flowmm_cli.output import human_bytes
from flowmm_cli.values import parse_age, parse_bytes

if TYPE_CHECKING:
    from flowmm import PrunePlan

MaxBytes = Annotated[
    str, typer.Option("--max-bytes", metavar="SIZE", help="What may be left: 20GB, 500MB, 1GiB, a number of bytes.")
]
OlderThan = Annotated[
    str | None, typer.Option("--older-than", metavar="AGE", help="Delete only files unchanged for this: 30d, 12h, 2w.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted, delete nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def prune(
    folder: o.Folder,
    max_bytes: MaxBytes,
    older_than: OlderThan = None,
    recursive: o.Recursive = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: o.Json = False,
) -> None:
    """Delete the oldest context files of a folder until the others fit.

    Oldest are those whose last change is longest ago; how often a file was asked does not count. Files of other
    programs and links are never touched. What would go is shown, and on a terminal it asks first.
    """
    from flowmm import list_files, plan_prune

    limit = parse_bytes(max_bytes, "--max-bytes")
    age = None if older_than is None else parse_age(older_than, "--older-than")
    listing = list_files(folder, recursive=recursive)
    now = time.time()
    plan = plan_prune(listing, limit, older_than_seconds=age, now=now)
    if not json:
        _show(plan, folder, now)
        warn(listing)
    if plan.delete and not (dry_run or yes or sys.stdin.isatty()):
        what = f"{folder}: {count(len(plan.delete))} would be deleted, and there is no terminal to ask on"
        raise UsageError(what, "Delete them with --yes, or look at them with --dry-run.")
    agreed = bool(plan.delete) and not dry_run and (yes or typer.confirm("Delete?", err=True))
    deleted, failed = _delete(plan) if agreed else ([], {})
    if json:
        output.put_json({**plan.as_dict(), "dry_run": dry_run, "deleted": deleted, "failed": failed})
    elif plan.delete:
        output.put(f"{count(len(deleted))} deleted")
    if failed:
        named = "; ".join(f"{path}: {why}" for path, why in failed.items())
        raise ResourceError(f"{named}: not deleted", "Mend the folder's permissions, or run it again.")


def _delete(plan: "PrunePlan") -> tuple[list[str], dict[str, str]]:
    """Paths that are gone, and those that stay with the reason."""
    from flowmm import prune

    deleted, failed = [], {}
    for file, problem in prune(plan):
        if problem is None:
            deleted.append(file.path)
        else:
            failed[file.path] = problem
    return deleted, failed


def _show(plan: "PrunePlan", folder: Path, now: float) -> None:
    width = output.width()
    for title, files, num_bytes in (
        ("to delete", plan.delete, plan.bytes_deleted),
        ("stays", plan.keep, plan.bytes_kept),
    ):
        output.put(f"{title}: {count(len(files))}, {human_bytes(num_bytes)}")
        for line in table(files, folder, now, width):
            output.put(line)
    if not plan.fits:
        output.put(f"what stays is more than {human_bytes(plan.max_bytes)}: the other files are not old enough")
