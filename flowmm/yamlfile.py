"""Read and write YAML by the rules of YAML 1.2, and say of each problem in which line and column it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from flowmm.errors import UsageError

_SCALARS = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 core schema: ``1e-3`` is a number, ``on`` and ``no`` are strings, ``010`` is ten; no dates."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # type: ignore[misc]

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):  # a mapping that holds itself, or grows a billionfold
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="references (*) are not read here", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


for _kind, _pattern, _first in _SCALARS:
    _firsts = ["" if char == "\0" else char for char in _first]
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _firsts)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)


class _Dumper(yaml.SafeDumper):
    """Quotes what :class:`_Loader` would take for a number; writes no references, which it refuses."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True


@dataclass(frozen=True)
class Problem:
    """Something wrong in a file, at 1-based line and column."""

    path: str
    line: int
    column: int
    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.key + ': ' if self.key else ''}{self.what}"


class Document:
    """A YAML file that holds one mapping.

    Args:
        path: the file.
        text: what it says.

    Raises:
        UsageError: it is no YAML, or no mapping, or has a key twice.
    """

    def __init__(self, path: Path | str, text: str) -> None:
        self.path, self.text = str(path), text
        loader = _Loader(text)
        try:
            self._root = _mapping(self.path, loader.get_single_node())
            self.data: dict[str, Any] = loader.construct_document(self._root)
        except yaml.YAMLError as error:
            raise refuse([self._syntax(error)]) from None
        except RecursionError:
            raise refuse([Problem(self.path, 1, 1, "", "nested too deeply")]) from None
        finally:
            loader.dispose()

    def reach(self, keys: tuple[str | int, ...]) -> tuple[str | int, ...]:
        """As many of ``keys`` as lead somewhere in the file."""
        return keys[: len(self._walk(keys))]

    def problem(self, keys: tuple[str | int, ...], what: str) -> Problem:
        """``what`` is wrong with the entry at ``keys``; a missing entry's place is that of the mapping it is not in."""
        mark = ([self._root.start_mark] + [mark for mark, _ in self._walk(keys)])[-1]
        return Problem(self.path, mark.line + 1, mark.column + 1, ".".join(map(str, keys)), what)

    def _walk(self, keys: tuple[str | int, ...]) -> list[tuple[yaml.Mark, yaml.Node]]:
        """Where each of ``keys`` starts and what it holds, as far as they lead."""
        node: yaml.Node = self._root
        steps: list[tuple[yaml.Mark, yaml.Node]] = []
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                found = [(name.start_mark, value) for name, value in node.value if name.value == str(key)]
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
                found = [(item.start_mark, item) for item in node.value[key : key + 1]]
            else:
                found = []
            if not found:
                break
            steps.append(found[0])
            node = found[0][1]
        return steps

    def _syntax(self, error: yaml.YAMLError) -> Problem:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        return Problem(self.path, line, column, "", getattr(error, "problem", None) or str(error))


def read(path: Path) -> Document:
    """Read a file.

    Raises:
        UsageError: it cannot be read, or see :class:`Document`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"{path}: cannot be read: {reason}", "Give the path of a YAML file, or a name.") from None
    return Document(path, text)


def dump(data: dict[str, Any]) -> str:
    """The text of a mapping; keys stay in their order, lists of plain values on a line."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)


def refuse(problems: list[Problem]) -> UsageError:
    """All problems as one error, a line each, in the order of the lines."""
    problems = sorted(dict.fromkeys(problems), key=lambda problem: (problem.path, problem.line, problem.column))
    count = "this line" if len(problems) == 1 else f"these {len(problems)} lines"
    return UsageError("\n".join(map(str, problems)), f"Mend {count} and try again; docs/profiles.md explains each key.")


def _mapping(path: str, root: yaml.Node | None) -> yaml.MappingNode:
    if not isinstance(root, yaml.MappingNode):
        raise refuse([Problem(path, 1, 1, "", "expected keys and values")])
    twice = [(key.start_mark.line + 1, key.start_mark.column + 1, str(key.value)) for key in _repeated(root)]
    if twice:
        raise refuse([Problem(path, *place, "this key is there twice") for place in twice])
    return root


def _repeated(node: yaml.Node) -> list[yaml.Node]:
    """Key nodes whose key stood in the same mapping before."""
    if isinstance(node, yaml.SequenceNode):
        return [key for item in node.value for key in _repeated(item)]
    if not isinstance(node, yaml.MappingNode):
        return []
    seen: set[tuple[str, str]] = set()
    found = []
    for key, value in node.value:
        name = (key.tag, str(key.value))
        found += [key] if name in seen else []
        seen.add(name)
        found += _repeated(value)
    return found
