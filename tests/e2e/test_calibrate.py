"""Measure the embedded reader through the real command, and use the profile at once."""

import json

import pytest

from flowmm.profiles import load_profile
from tests.e2e.documents import TEXT
from tests.e2e.process import flowmm


def test_a_profile_is_measured_checked_and_used(workshop):
    (workshop / "letter.txt").write_text(TEXT, encoding="utf-8")
    sources = ("report.pdf", "letter.txt", "--pdf", "both")
    done = flowmm(workshop, "calibrate", *sources, "-o", "my.yaml", "--json")
    assert done.code == 0, done.stderr
    assert "embedded reader" in done.stderr
    made = json.loads(done.stdout)
    found = made["calibrated"]
    assert (made["schema_version"], made["file"], made["model_type"]) == (1, "my.yaml", "qwen2_vl")
    assert [one["name"] for one in found["documents"]] == ["report.pdf", "letter.txt"]
    assert (found["model"], len(found["flow_mean"])) == ("flowmm/reader", len(made["head_budget"]))
    assert set(found["flow_spread"]) == {0.0}  # only the PDF has images
    assert min(found["flow_mean"]) < made["theta"] < max(found["flow_mean"])
    assert made["max_pixels"] == 200704  # what is not measured comes from the reader's own profile

    checked = flowmm(workshop, "profiles", "check", "my.yaml")
    assert (checked.code, checked.stderr) == (0, "")
    used = ("prefill", "report.pdf", "-o", "mine.kv", "-p", "my.yaml", "--method", "attention-matching", "--json", "-q")
    small = flowmm(workshop, *used)
    assert small.code == 0, small.stderr
    assert json.loads(small.stdout)["keep_reached"] == pytest.approx(0.2, abs=0.01)

    again = flowmm(workshop, "calibrate", *sources, "-o", "my.yaml")
    assert (again.code, again.error[0]) == (2, "my.yaml: exists already")


def test_what_was_measured_is_shown_layer_by_layer(workshop):
    done = flowmm(workshop, "calibrate", "notes.txt", "-o", "text.yaml", "-q")
    assert (done.code, done.stderr) == (0, "")
    names, _, first, *_, theta, last = done.stdout.splitlines()
    assert names.startswith("layer  flow")
    assert first.split()[:4] == ["0", "-", "-", "-"]  # no images, no flow
    assert theta == f"theta {load_profile('reader').theta:g}: not measured: no document has both images and text"
    assert last.startswith("text.yaml: measured on ")
    assert last.endswith(" tokens of 1 document; use it with -p text.yaml")
