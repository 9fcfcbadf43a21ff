"""`flowmm doctor`: what would work on this machine."""

import typer

from flowmm_cli import options as o
from flowmm_cli import output


def doctor(json: o.Json = False) -> None:
    """Check what would work on this machine.

    Looks at versions, device, memory, disk, transformers, and whether the embedded reader answers. Exits with 1 if
    something does not work.
    """
    from flowmm import examine

    checks = []
    for check in examine():
        checks.append(check)
        if not json:
            output.put(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<13} {check.found}")
            if not check.ok:
                output.put(f"{'':<20}{check.hint}")
    good = all(check.ok for check in checks)
    if json:
        listed = [{"name": c.name, "ok": c.ok, "found": c.found, "hint": "" if c.ok else c.hint} for c in checks]
        output.put_json({"ok": good, "checks": listed})
    if not good:
        raise typer.Exit(1)
