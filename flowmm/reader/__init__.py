"""The embedded reader: a tiny Qwen2-VL trained from scratch by the code in this package.

Importing this package is free: it loads neither torch nor transformers.
"""

from pathlib import Path


def folder() -> Path:
    """The folder of the shipped weights, tokenizer and image processor."""
    return Path(__file__).parent / "weights"
