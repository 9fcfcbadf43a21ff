"""Shares, sizes and ages as people write them on the command line."""

import re

from flowmm import UsageError

_POWERS = " KMGT"
_SECONDS = {"min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SHARES = {  # what to give, and whether it may be all
    "--keep": ("the share of the slots to keep, more than 0 and at most 1: --keep 0.2 or --keep 20%", True),
    "--reduce": ("the share of the bytes that goes, more than 0 and less than 1: --reduce 0.95 or --reduce 95%", False),
    "--min-agreement": (
        "the share of held-out answers' tokens that must stay the same: --min-agreement 0.98 or 98%",
        True,
    ),
}


def parse_share(text: str, flag: str = "--keep") -> float:
    """``0.1`` and ``10%`` as 0.1.

    Args:
        text: the value.
        flag: its option: ``--keep``, ``--reduce`` or ``--min-agreement``.

    Raises:
        UsageError: no number, or not between 0 and 1; 1 itself is no ``--reduce``.
    """
    what, may_be_all = _SHARES[flag]
    number, scale = (text[:-1], 100) if text.endswith("%") else (text, 1)
    try:
        share = float(number) / scale
    except ValueError:
        raise UsageError(f"{flag} {text}: not a number", f"Give {what}.") from None
    if not (0 < share < 1 or (may_be_all and share == 1)):
        raise UsageError(f"{flag} {text}: not a share between 0 and 1", f"Give {what}.")
    return share


def parse_bytes(text: str, flag: str) -> int:
    """``20GB``, ``1.5MB`` and ``1000`` in powers of 1000, ``1GiB`` in powers of 1024; case makes no difference.

    Args:
        text: the value.
        flag: its option, for the message.

    Raises:
        UsageError: it is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([KMGT])(I?))?B?", text.strip().upper(), re.ASCII)
    if found is None:
        raise UsageError(f"{flag} {text}: not a size", f"Give a number of bytes, as in {flag} 20GB, 50MB or 1GiB.")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWERS.index(unit or " "))


def parse_age(text: str, flag: str) -> float:
    """``90min``, ``12h``, ``30d`` and ``2w`` in seconds.

    Args:
        text: the value.
        flag: its option, for the message.

    Raises:
        UsageError: it is no age.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(min|h|d|w)", text.strip(), re.ASCII)
    if found is None:
        raise UsageError(f"{flag} {text}: not an age", f"Give a number with min, h, d or w: {flag} 30d.")
    return float(found[1]) * _SECONDS[found[2]]
