"""Write the generated documents: docs/cli.md from the help texts, the table in docs/methods.md from the methods.

With --check nothing is written; the exit code is 1 when a document is stale.
"""

import os
import sys
from pathlib import Path

os.environ |= {"TYPER_USE_RICH": "0", "COLUMNS": "100", "NO_COLOR": "1"}  # before typer: plain text of one width
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from typer.main import get_command  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from flowmm.profiles import methods_table  # noqa: E402
from flowmm_cli.app import app  # noqa: E402

BEGIN, END = "<!-- methods table: made by flowmm.profiles.methods_table -->\n", "<!-- end of the methods table -->"


def help_of(*words: str) -> str:
    """The help text of a command."""
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="flowmm", catch_exceptions=False)
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())


def commands() -> list[tuple[str, ...]]:
    """All commands, those of groups behind their group."""
    found: list[tuple[str, ...]] = [()]
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        found.append((name,))
        found += [(name, inner) for inner in getattr(command, "commands", {})]
    return found


def cli() -> str:
    """docs/cli.md."""
    head = "# Command line\n\nGenerated from the help texts by `make docs`; do not edit.\n"
    parts = (f"## {' '.join(('flowmm', *words))}\n\n```text\n{help_of(*words)}\n```\n" for words in commands())
    return "\n".join((head, *parts))


def methods(text: str) -> str:
    """docs/methods.md with a fresh table between its two marks."""
    before, _, rest = text.partition(BEGIN)
    if not rest or END not in rest:
        sys.exit(f"docs/methods.md: no table between {BEGIN.strip()} and {END}\nPut both lines where it should stand.")
    return f"{before}{BEGIN}{methods_table()}{END}{rest.partition(END)[2]}"


def main() -> int:
    """Write or check every generated document."""
    table = ROOT / "docs" / "methods.md"
    fresh = {ROOT / "docs" / "cli.md": cli(), table: methods(table.read_text(encoding="utf-8"))}
    stale = [path for path, text in fresh.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale: run make docs", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(fresh[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
