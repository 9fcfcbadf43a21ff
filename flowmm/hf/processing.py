"""Tokenizer, processor and chat template of a model; works without torchvision."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from flowmm.errors import InputError, UnsupportedModelError


def load_tokenizer(folder: Path, trust_remote_code: bool) -> Any:
    """The model's tokenizer (always a fast one: streaming needs it).

    Raises:
        InputError: its files are damaged or missing. UnsupportedModelError: there is only a slow one.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # the Rust half raises plain Exception
        raise InputError(
            f"{folder.name}: its tokenizer cannot be read: {_first_line(error)}", "Fetch the model's files again."
        ) from error
    if not tokenizer.is_fast:
        raise UnsupportedModelError(
            f"{folder.name}: has only a slow tokenizer", "Add a tokenizer.json to the model's folder."
        )
    return tokenizer


def load_processor(folder: Path, config: Any, tokenizer: Any, trust_remote_code: bool) -> Any | None:
    """The model's image processor joined with its tokenizer; None for a text-only model."""
    from transformers import AutoProcessor
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and not hasattr(config, "vision_config"):
        return None
    try:
        return AutoProcessor.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (ImportError, ValueError) as error:
        # Video processors need torchvision, and with them every processor class that could take videos.
        if "torchvision" not in str(error).lower():
            raise _unreadable(folder, error) from error
    try:
        return _image_only_processor(folder, config, tokenizer)
    except (ImportError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(folder, error) from error


def _image_only_processor(folder: Path, config: Any, tokenizer: Any) -> Any:
    """The model's own processor class without its video half, with the image processor that needs Pillow only."""
    from transformers import AutoImageProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    family_class = PROCESSOR_MAPPING[type(config)]

    def check(self: Any, name: str, argument: Any) -> Any:
        if name == "video_processor":
            return None
        return family_class.check_argument_for_proper_class(self, name, argument)

    image_only = type(family_class.__name__, (family_class,), {"check_argument_for_proper_class": check})
    settings, _ = family_class.get_processor_dict(folder)
    known = set(inspect.signature(family_class.__init__).parameters)
    given = {"self", "image_processor", "tokenizer", "video_processor", "chat_template"}
    return image_only(
        image_processor=AutoImageProcessor.from_pretrained(folder, backend="pil"),
        tokenizer=tokenizer,
        video_processor=None,
        chat_template=settings.get("chat_template") or tokenizer.chat_template,
        **{key: value for key, value in settings.items() if key in known - given},
    )


def chat_template(tokenizer: Any, processor: Any | None, name: str) -> str:
    """The text of the model's chat template.

    Raises:
        UnsupportedModelError: it has none, so there is no telling how a question is put to it.
    """
    template = getattr(processor, "chat_template", None) or tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        raise UnsupportedModelError(
            f"{name}: has no chat template",
            "Use an instruction-tuned model, or add a chat_template.jinja to its folder.",
        )
    return str(template)


def processor_settings(folder: Path) -> dict[str, Any] | None:
    """What the model's files say about image processing; versions of libraries left out."""
    found: dict[str, Any] = {}
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if path.is_file():
            settings = json.loads(path.read_text(encoding="utf-8"))
            found[name] = {k: v for k, v in settings.items() if k not in ("transformers_version", "chat_template")}
    return found or None


def _unreadable(folder: Path, error: Exception) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{folder.name}: its image processor cannot be loaded here: {_first_line(error)}",
        "Install what it needs (docs/limits.md names the extras), or use another model.",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
