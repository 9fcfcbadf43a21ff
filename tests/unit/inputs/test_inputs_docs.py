from __future__ import annotations

import gzip
import re
from pathlib import Path
from types import ModuleType

import pytest

from flowmm import inputs
from flowmm.errors import InputError

PAGE = Path(__file__).parents[3] / "docs" / "add-an-input.md"


def test_the_example_in_the_docs_works(tmp_path, monkeypatch):
    example = ModuleType("gzipped")
    code, line = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(code, example.__dict__)
    assert line.strip() == '"gzip": gzipped,'
    monkeypatch.setattr(inputs, "LOADERS", {"gzip": example, **inputs.LOADERS})
    packed = gzip.compress(b"some text")
    (tmp_path / "a.gz").write_bytes(packed)
    (part,) = inputs.read([tmp_path / "a.gz"])
    assert (part.payload, part.source.kind) == ("some text", "gzip")
    (tmp_path / "a.gz").write_bytes(packed[:-4])
    with pytest.raises(InputError, match="is a damaged gzip file"):
        inputs.read([tmp_path / "a.gz"])
    (tmp_path / "a.gz").write_text("plain")
    with pytest.raises(InputError, match="holds no gzip data"):
        inputs.read([tmp_path / "a.gz"])
