"""A file is checked as what it is, and all that is wrong with it is said at once."""

import pytest

from flowmm.checks import check_file
from flowmm.errors import UnknownNameError, UsageError
from flowmm.profiles import method_names, profile_names


def problems(path, text) -> list[str]:
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        check_file(path)
    return caught.value.what.replace(f"{path.parent}/", "").splitlines()


def test_everything_shipped_is_valid_and_known_by_its_keys():
    assert {check_file(name) for name in profile_names()} == {"profile"}
    assert {check_file(name) for name in method_names()} == {"method"}


def test_all_problems_of_a_methods_rules_come_with_the_others(tmp_path):
    text = """titel: mine
score: {rule: atention}
budget:
  rule: uniform
  recent: 2
  least: 0.1
merge: {rule: evict, mass: 3}
refit: {ridge: 0, iteration: 5}
observe: {tail: -1}
"""
    assert problems(tmp_path / "a.yaml", text) == [
        "a.yaml:1:1: title: is missing",
        "a.yaml:1:1: paper: is missing",
        "a.yaml:1:1: titel: unknown key; did you mean 'title'?",
        "a.yaml:2:9: score.rule: there is no scoring rule named 'atention'; did you mean 'attention'?",
        "a.yaml:5:3: budget.recent: should be less than or equal to 1, found 2",
        "a.yaml:6:3: budget.least: unknown key; known: alive, head_budget, recent",
        "a.yaml:7:22: merge.mass: unknown key; known: -",
        "a.yaml:8:9: refit.ridge: should be greater than 0, found 0",
        "a.yaml:8:19: refit.iteration: unknown key; did you mean 'iterations'?",
        "a.yaml:9:11: observe.tail: should be greater than or equal to 0, found -1",
    ]


def test_the_score_of_a_scout_is_checked_like_any_other(tmp_path):
    text = """title: t
paper: null
observe: {tail: 64, scout: {top: 0, score: {rule: attention, windw: 3}, cumulatve: true}}
score: {rule: observed, passes: [scout]}
budget: {rule: uniform}
merge: {rule: evict}
"""
    assert problems(tmp_path / "a.yaml", text) == [
        "a.yaml:3:29: observe.scout.top: should be greater than 0, found 0",
        "a.yaml:3:62: observe.scout.score.windw: unknown key; did you mean 'window'?",
        "a.yaml:3:73: observe.scout.cumulatve: unknown key; did you mean 'cumulative'?",
    ]
    unknown = text.replace("top: 0, ", "").replace(", windw: 3", "").replace(", cumulatve: true", "")
    assert problems(tmp_path / "a.yaml", unknown.replace("attention", "atention")) == [
        "a.yaml:3:37: observe.scout.score.rule: there is no scoring rule named 'atention'; did you mean 'attention'?"
    ]
    assert problems(tmp_path / "a.yaml", text.replace("{top", "3 #")) != []


def test_a_rule_without_a_name_is_said_once(tmp_path):
    text = "title: t\npaper: null\nscore: {window: 3}\nbudget: {rule: 3}\nmerge: evict\n"
    assert problems(tmp_path / "a.yaml", text) == [
        "a.yaml:3:1: score.rule: is missing",
        "a.yaml:4:10: budget.rule: should be a valid string, found 3",
        "a.yaml:5:1: merge: should be keys and values, found 'evict'",
    ]


def test_a_profile_is_checked_with_the_method_it_names(mine):
    path = mine / "models" / "a.yaml"
    assert problems(path, "extends: default\nmethod: snapvk\ntheta: -1\n") == [
        "a.yaml:2:1: method: there is no method named 'snapvk'; did you mean 'snapkv'?",
        "a.yaml:3:1: theta: should be greater than or equal to 0, found -1",
    ]
    (mine / "methods" / "own.yaml").write_text("title: t\n")
    assert any("own.yaml:1:1: score: is missing" in line for line in problems(path, "extends: default\nmethod: own\n"))
    gone = problems(path, "extends: default\nmethod: ./gone.yaml\n")
    assert gone == ["a.yaml:2:1: method: gone.yaml: cannot be read: No such file or directory"]


def test_a_users_profile_in_the_configuration_folder_extends_a_shipped_one(mine):
    (mine / "models" / "gemma3.yaml").write_text("extends: gemma3\ntheta: 0.1\n")
    assert check_file("gemma3") == "profile"
    (mine / "models" / "gemma3.yaml").write_text("extends: gemma3\ntheta: 1.1\n")
    with pytest.raises(UsageError, match=r"gemma3.yaml:2:1: theta: should be less than or equal to 1, found 1.1"):
        check_file("gemma3")


def test_a_file_that_could_be_either_is_not_guessed_at(tmp_path):
    (line,) = problems(tmp_path / "a.yaml", "description: d\n")
    assert line.endswith("(extends, method, theta), found none of them")
    (line,) = problems(tmp_path / "a.yaml", "theta: 0.2\nscore: {rule: knorm}\n")
    assert line.endswith("found score and theta")


def test_an_unknown_name_is_neither():
    with pytest.raises(UnknownNameError, match="no profile or method named 'snapvk'"):
        check_file("snapvk")


def test_a_gate_that_is_not_there_is_a_problem(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("extends: default\ngate: my.safetensors\n")
    with pytest.raises(UsageError, match=r"a\.yaml:2:1: gate: there is no file my\.safetensors beside"):
        check_file(path)
    (tmp_path / "my.safetensors").touch()
    assert check_file(path) == "profile"
