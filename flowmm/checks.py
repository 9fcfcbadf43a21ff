"""Check the file of a method or of a model profile: every problem at once, with line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from flowmm.errors import UnknownNameError, UsageError
from flowmm.profiles import Kind, Method, ModelProfile, extended, find, load_profile, method_names, profile_names
from flowmm.validation import find_problems, unknown_name
from flowmm.yamlfile import Document, Problem, read, refuse

_EITHER = frozenset({"description"})


def check_file(name: str | Path) -> Literal["method", "profile"]:
    """What kind of file it is, which its keys tell; a profile is checked with what it extends and its method.

    Args:
        name: path of a file, or the name of a profile or of a method, sought in this order.

    Raises:
        UnknownNameError: no such name.
        UsageError: the file has problems; all of them, with line and column.
    """
    path = _find_either(name)
    document = read(path)
    kind = _kind(document)
    problems = _method_problems(document) if kind == "method" else _profile_problems(path)
    if problems:
        raise refuse(problems)
    return kind


def _find_either(name: str | Path) -> Path:
    kinds: tuple[Kind, Kind] = ("models", "methods")
    for kind in kinds:
        try:
            return find(kind, name)
        except UnknownNameError:
            continue
    raise UnknownNameError("profile or method", str(name), {*profile_names(), *method_names()})


def _kind(document: Document) -> Literal["method", "profile"]:
    """The kind that more of the file's keys belong to."""
    mine = {str(key) for key in document.data} - _EITHER
    of_method, of_profile = sorted(mine & Method.known_keys()), sorted(mine & ModelProfile.known_keys())
    if len(of_method) == len(of_profile):
        found = f"found {', '.join(of_method)} and {', '.join(of_profile)}" if of_method else "found none of them"
        what = "expected keys of a method (score, budget, merge) or of a model profile (extends, method, theta)"
        raise refuse([document.problem((), f"{what}, {found}")])
    return "method" if len(of_method) > len(of_profile) else "profile"


def _method_problems(document: Document) -> list[Problem]:
    from flowmm.rules import find_rule_problems  # imports torch

    return find_problems(Method, document, document.data) + find_rule_problems(document)


def _gate_problems(path: Path, document: Document) -> list[Problem]:
    profile = load_profile(path)
    if profile.gate_file is None or Path(profile.gate_file).is_file():
        return []
    return [document.problem(("gate",), f"there is no file {profile.gate} beside the profile that names it")]


def _profile_problems(path: Path) -> list[Problem]:
    document, data, problems = extended(path)
    problems += _gate_problems(path, document) if not problems else []
    name = data.get("method")
    if not isinstance(name, str):
        return problems
    try:
        method = read(find("methods", name))
    except UnknownNameError as error:
        return [*problems, document.problem(("method",), unknown_name(error))]
    except UsageError as error:
        return [*problems, document.problem(("method",), "; ".join(error.what.splitlines()))]
    return problems + find_problems(Method, method, method.data)
