"""Methods and model profiles: found by name, checked, all problems at once."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flowmm.errors import MismatchError, UnknownNameError, UsageError
from flowmm.profiles import ModelProfile, load_method, load_profile, method_names, methods_table, profile_names

ROOT = Path(__file__).parents[2]
METHOD = "title: t\npaper: null\nscore: {rule: knorm}\nbudget: {rule: uniform}\nmerge: {rule: evict}\n"


def test_the_shipped_methods_are_those_of_the_first_release():
    shipped = {"full", "random", "streaming-llm", "knorm", "keydiff", "snapkv", "h2o", "flowmm-paper"}
    assert shipped <= set(method_names())


def test_a_method_keeps_its_text_and_its_rules_fields():
    method = load_method("h2o")
    assert method.text == (ROOT / "profiles" / "methods" / "h2o.yaml").read_text()
    assert (method.budget.rule, method.budget.fields) == ("uniform", {"recent": 0.5})
    assert (method.passes, method.question, method.observe.cumulative) == (1, False, True)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'snapkv'"):
        load_method("snapkw")
    with pytest.raises(UnknownNameError, match="Did you mean 'gemma3'"):
        load_profile("gema3")


def test_all_problems_of_a_method_come_at_once_with_line_and_column(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "titel: x\npaper: 3\nscore: {rul: knorm}\nbudget: uniform\nmerge: {rule: evict}\nobserve: {tail: -1}\n"
    )
    with pytest.raises(UsageError) as caught:
        load_method(path)
    assert caught.value.what.replace(str(path), "a.yaml").splitlines() == [
        "a.yaml:1:1: title: is missing",
        "a.yaml:1:1: titel: unknown key; did you mean 'title'?",
        "a.yaml:2:1: paper: should be a valid string, found 3",
        "a.yaml:3:1: score.rule: is missing",
        "a.yaml:4:1: budget: should be keys and values, found 'uniform'",
        "a.yaml:6:11: observe.tail: should be greater than or equal to 0, found -1",
    ]


def test_a_file_cannot_set_its_own_name(tmp_path):
    (tmp_path / "a.yaml").write_text(METHOD + "name: other\n")
    with pytest.raises(UsageError, match="6:1: name: is not for a file to set"):
        load_method(tmp_path / "a.yaml")


def test_the_users_file_comes_before_the_shipped_one(mine):
    (mine / "methods" / "knorm.yaml").write_text(METHOD.replace("title: t", "title: my own"))
    (mine / "methods" / "extra.yaml").write_text(METHOD)
    assert load_method("knorm").title == "my own"
    assert "extra" in method_names()


def test_a_path_is_told_from_a_name(tmp_path, monkeypatch):
    (tmp_path / "knorm.yaml").write_text(METHOD.replace("title: t", "title: by path"))
    monkeypatch.chdir(tmp_path)
    assert load_method("knorm.yaml").title == "by path"
    assert load_method("./knorm.yaml").title == "by path"
    assert load_method("knorm").title != "by path"


def test_a_profile_is_chosen_by_the_models_type_or_is_the_default():
    assert load_profile(None, "gemma3").name == "gemma3"
    assert load_profile(None, "a_model_of_tomorrow").name == "default"
    assert load_profile().name == "default"
    assert load_profile("reader", "qwen2_vl").name == "reader"


def test_a_profile_of_another_type_of_model_is_refused():
    with pytest.raises(MismatchError, match="gemma3: made with model_type gemma3, but found llama"):
        load_profile("gemma3", "llama")


def test_extending_fills_in_what_is_not_said(mine):
    (mine / "models" / "mine.yaml").write_text("extends: gemma3\ntheta: 1e-1\n")
    profile = load_profile("mine")
    assert (profile.theta, profile.tau, profile.model_type) == (0.1, 0.5, "gemma3")
    assert yaml.safe_load(profile.text)["theta"] == 0.1


def test_the_text_of_a_profile_is_a_profile_again(tmp_path):
    (tmp_path / "again.yaml").write_text(load_profile("gemma3").text)
    again = load_profile(tmp_path / "again.yaml")
    assert again.model_dump(exclude={"name"}) == load_profile("gemma3").model_dump(exclude={"name"})


def test_context_files_do_not_carry_where_the_numbers_of_a_profile_come_from():
    profile = load_profile("reader")
    whole, carried = yaml.safe_load(profile.text), yaml.safe_load(profile.settings)
    assert whole.pop("calibrated")["documents"]
    assert carried == whole


def test_a_users_profile_can_extend_its_shipped_namesake(mine):
    (mine / "models" / "default.yaml").write_text("extends: default\ntau: 0.75\n")
    assert load_profile().tau == 0.75
    assert load_profile(None, "llama").tau == 0.75  # llama extends default, which is now the user's


def test_a_gate_is_beside_the_profile_that_names_it(mine, tmp_path):
    (mine / "models" / "base.yaml").write_text("extends: default\ngate: base-gate.safetensors\n")
    (tmp_path / "child.yaml").write_text("extends: base\n")
    (tmp_path / "other.yaml").write_text("extends: base\ngate: own.safetensors\n")
    (tmp_path / "none.yaml").write_text("extends: base\ngate: null\n")
    found = {name: load_profile(tmp_path / f"{name}.yaml") for name in ("child", "other", "none")}
    assert found["child"].gate_file == str(mine / "models" / "base-gate.safetensors")
    assert found["other"].gate_file == str(tmp_path / "own.safetensors")
    assert (found["none"].gate, found["none"].gate_file) == (None, None)
    assert str(tmp_path) not in found["other"].text + str(found["other"].model_dump())  # no path of this machine


@pytest.mark.parametrize("name", ["/etc/gate.safetensors", "sub/gate.safetensors", "gate.pt"])
def test_a_gate_is_named_and_not_sought_elsewhere(tmp_path, name):
    (tmp_path / "a.yaml").write_text(f"extends: default\ngate: {name}\n")
    with pytest.raises(UsageError, match=r"a\.yaml:2:1: gate: "):
        load_profile(tmp_path / "a.yaml")


def test_profiles_that_extend_each_other_are_refused(mine):
    (mine / "models" / "a.yaml").write_text("extends: b\n")
    (mine / "models" / "b.yaml").write_text("extends: a\n")
    with pytest.raises(UsageError, match=r"b.yaml:1:1: extends: there is no profile named 'a'"):
        load_profile("a")
    (mine / "models" / "c.yaml").write_text("extends: ./c.yaml\n".replace(".", str(mine / "models"), 1))
    with pytest.raises(UsageError, match=r"c.yaml:1:1: extends: .*c.yaml extends this file"):
        load_profile("c")


def test_all_problems_come_at_once_though_the_base_is_unknown_or_broken(mine):
    (mine / "models" / "a.yaml").write_text("extends: defualt\ntheta: 2\nteta: 0.5\n")
    with pytest.raises(UsageError) as caught:
        load_profile("a")
    assert caught.value.what.replace(f"{mine}/models/", "").splitlines() == [
        "a.yaml:1:1: extends: there is no profile named 'defualt'; did you mean 'default'?",
        "a.yaml:2:1: theta: should be less than or equal to 1, found 2",
        "a.yaml:3:1: teta: unknown key; did you mean 'theta'?",
    ]
    (mine / "models" / "b.yaml").write_text("extends: a\ntau: .nan\n")
    with pytest.raises(UsageError) as caught:
        load_profile("b")
    places = [line.split(": ")[:2] for line in caught.value.what.replace(f"{mine}/models/", "").splitlines()]
    assert places == [["a.yaml:1:1", "extends"], ["a.yaml:2:1", "theta"], ["a.yaml:3:1", "teta"], ["b.yaml:2:1", "tau"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: default\ntheta: 2\n", "2:1: theta: should be less than or equal to 1, found 2"),
        ("extends: default\nteta: 0.2\n", "2:1: teta: unknown key; did you mean 'theta'?"),
        ("extends: default\nstrategy: [intra, both]\n", "strategy: .* or should be 'intra' or 'cross', found 'both'"),
        ("extends: default\ncalibrated: {model: m}\n", "2:1: calibrated.documents: is missing"),
        ("extends: default\ncalibrated: {documents: [{nam: a}]}\n", "nam: unknown key; did you mean 'name'?"),
        ("theta: 0.2\n", "1:1: tau: is missing"),
        ("extends: [default]\n", "1:1: extends: should be the name of a profile"),
    ],
)
def test_problems_of_a_profile_have_their_place(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_profile(tmp_path / "a.yaml")


@pytest.mark.parametrize("name", profile_names())
def test_shipped_profiles_are_valid_and_only_the_readers_may_claim_a_calibration(name):
    profile = load_profile(name)
    assert profile.method in method_names()
    assert profile.calibrated is None or name == "reader"
    assert profile.model_type in (name, None) or name == "reader"


def test_the_table_in_the_documentation_is_current():
    assert methods_table() in (ROOT / "docs" / "methods.md").read_text()


def test_every_key_is_explained_in_the_documentation():
    text = (ROOT / "docs" / "profiles.md").read_text()
    fields = set(type(load_profile()).model_fields) | set(type(load_method("full")).model_fields)
    assert [name for name in sorted(fields - ModelProfile.not_in_file) if f"`{name}`" not in text] == []


def test_listing_methods_does_not_import_torch():
    check = (
        "import sys; from flowmm.profiles import *; methods_table(); load_profile(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)
