"""One folder with documents and context files for all tests of the command line."""

from pathlib import Path

import pytest

from tests.e2e.documents import TEXT, write_pdf, write_png
from tests.e2e.process import flowmm


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents, ctx.kv made of them at 20 %, full.kv with everything. Tests add files, and change none of these."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "notes.txt").write_text(TEXT, encoding="utf-8")
    write_pdf(folder / "report.pdf", [["Kenu: 3164"], ["Rilo: 9052"]])
    write_png(folder / "left.png", ["Wopa: 5527"])
    made = flowmm(folder, "prefill", "report.pdf", "left.png", "notes.txt", "-o", "full.kv", "--no-compress", "-q")
    assert (made.code, made.stderr) == (0, "")
    small = flowmm(folder, "compress", "full.kv", "-o", "ctx.kv", "--keep", "0.2", "-q")
    assert (small.code, small.stderr) == (0, "")
    return folder
