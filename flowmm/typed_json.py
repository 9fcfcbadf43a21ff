"""Strict JSON: text to typed dataclasses and back, refusing whatever a dataclass does not say."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class MalformedError(ValueError):
    """Bytes that are not what they should be. Callers turn it into an error that names the file."""


def parse(text: bytes | str, where: str) -> Any:
    """The value of a JSON text.

    Raises:
        MalformedError: for damaged or too deeply nested JSON, a key that comes twice, NaN or Infinity.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except MalformedError as error:
        raise MalformedError(f"{where}: {error}") from None
    except RecursionError:
        raise MalformedError(f"{where}: JSON nested too deeply") from None
    except ValueError as error:  # damaged JSON, damaged UTF-8, a number of thousands of digits
        raise MalformedError(f"{where}: not valid JSON ({error})") from None


def canonical(value: Any) -> bytes:
    """The one spelling of a JSON value that is stored: compact, UTF-8, keys in their order; no NaN (ValueError)."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")


def encode(value: Any) -> Any:
    """Dataclasses, mappings and tuples as what JSON knows. Lone surrogates (odd file names) become ``?``."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if is_dataclass(value):
        return {entry.name: encode(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {encode(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value


def decode(kind: type[T], value: Any, where: str) -> T:
    """A JSON value as the dataclass ``kind``, field by field.

    A key no field has, and a missing one whose field has no default, are errors.

    Args:
        kind: a dataclass of str, int, float, bool, dataclasses, ``X | None``, ``tuple[X, ...]``, ``Mapping[str, X]``.
        value: what :func:`parse` gave.
        where: how messages call the value.

    Raises:
        MalformedError: naming the place, what was found and what was expected.
    """
    result: T = _decode(kind, value, where)
    return result


def _decode(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = _parts(kind)
    if origin in (Union, UnionType):
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _decode(inner, value, where)
    if origin is tuple:
        items = _expect(list, value, where)
        if _are_right(arguments[0], items):
            return tuple(items)
        return tuple(_decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(items))
    if origin is Mapping:
        pairs = _expect(dict, value, where)
        return {_decode(str, key, where): _decode(arguments[1], item, f"{where}.{key}") for key, item in pairs.items()}
    if is_dataclass(kind):
        return _decode_record(kind, _expect(dict, value, where), where)
    if kind is float:
        return _decode_float(value, where)
    scalar = _expect(kind, value, where)
    if kind is int and not -(2**63) <= scalar < 2**63:
        raise MalformedError(f"{where}: {_short(scalar)} does not fit 64 bits")
    if kind is str and not _is_utf8(scalar):
        raise MalformedError(f"{where}: half a surrogate pair in the text")
    return scalar


def _are_right(kind: Any, items: list[Any]) -> bool:
    """Whether all items are numbers as they should be: a quick look, for lists of millions."""
    if kind is int:
        return all(type(item) is int and -(2**63) <= item < 2**63 for item in items)
    return kind is float and all(type(item) is float and math.isfinite(item) for item in items)


def _decode_record(kind: Any, value: dict[str, Any], where: str) -> Any:
    hints, entries = _layout(kind)
    for key in value:
        if key not in entries:
            raise MalformedError(f"{where}: unknown key {_short(key)}")
    for name, entry in entries.items():
        if name not in value and entry.default is MISSING and entry.default_factory is MISSING:
            raise MalformedError(f"{where}: key {name!r} is missing")
    return kind(**{key: _decode(hints[key], item, f"{where}.{key}") for key, item in value.items()})


def _decode_float(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MalformedError(f"{where}: expected a number, found {_short(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):  # "1e999" is no constant, yet reads as infinity
        raise MalformedError(f"{where}: {_short(value)} is no finite number")
    return number


def _expect(kind: type[T], value: Any, where: str) -> T:
    if type(value) is not kind:  # isinstance would take True for an int
        raise MalformedError(f"{where}: expected {kind.__name__}, found {_short(value)}")
    return value


@cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(kind), get_args(kind)


@cache
def _layout(kind: Any) -> tuple[dict[str, Any], dict[str, Field[Any]]]:
    return get_type_hints(kind), {entry.name: entry for entry in fields(kind)}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise MalformedError(f"key {_short(name)} comes twice")
        found[name] = value
    return found


def _refuse_constant(name: str) -> Any:
    raise MalformedError(f"{name} is no number")


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _short(value: Any) -> str:
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits has no decimal text
        text = f"a {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:37]}..."
