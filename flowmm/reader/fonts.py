"""The faces that training pages are drawn in, and those kept back for evaluation.

Only training needs the system faces (Debian packages named in the model card). A face is either a file drawn by
Pillow, Pillow's built-in face, or one of the standard PDF fonts drawn by pdfium.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from PIL import ImageFont

_ROOT = Path("/usr/share/fonts")
# Held out: a family that training never sees, and unseen styles of families that it does.
_HELD_OUT = (
    "Caladea-Regular.ttf",
    "DejaVuSansCondensed.ttf",
    "Lato-Medium.ttf",
    "LiberationSerif-Italic.ttf",
    "Roboto-Light.ttf",
)
_TRAINED = (
    "DejaVuSansMono.ttf",
    "DejaVuSans.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSerif-Bold.ttf",
    "LiberationSans-Regular.ttf",
    "LiberationSerif-Regular.ttf",
    "LiberationMono-Regular.ttf",
    "LiberationSans-Bold.ttf",
    "LiberationSerif-Bold.ttf",
    "FreeSans.ttf",
    "FreeSerif.ttf",
    "FreeMonoBold.ttf",
    "Lato-Regular.ttf",
    "Lato-Bold.ttf",
    "Roboto-Regular.ttf",
    "Roboto-Medium.ttf",
    "OpenSans-Regular.ttf",
    "OpenSans-Semibold.ttf",
    "Carlito-Regular.ttf",
    "Carlito-Bold.ttf",
    "Hack-Regular.ttf",
    "Inconsolata.otf",
    "Cantarell-Regular.otf",
    "LinLibertine_R.otf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSansMono-Oblique.ttf",
    "DejaVuSerif-Italic.ttf",
    "LiberationSans-Italic.ttf",
    "LiberationMono-Italic.ttf",
    "FreeSansOblique.ttf",
    "FreeSerifItalic.ttf",
    "FreeSerifBoldItalic.ttf",
    "Lato-Italic.ttf",
    "Carlito-Italic.ttf",
    "OpenSans-Italic.ttf",
)
_STANDARD = (
    "Helvetica",
    "Times-Roman",
    "Courier",
    "Helvetica-Bold",
    "Times-Bold",
    "Courier-Bold",
)

Pen = ImageFont.FreeTypeFont


@dataclass(frozen=True)
class Face:
    """A face by name; ``path`` is None for Pillow's built-in one and for the standard PDF fonts."""

    name: str
    path: Path | None = None
    pdf: bool = False


BUILT_IN = Face("Aileron")


@lru_cache(maxsize=1024)
def pen(face: Face, size: int) -> Pen:
    """Pillow's font object of a face; a standard PDF font is measured and drawn by pdfium instead."""
    if face.path is None:
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow was built with FreeType
        return font
    return ImageFont.truetype(face.path, size)


@cache
def _installed() -> dict[str, Path]:
    return {path.name: path for path in sorted(_ROOT.rglob("*.[to]tf"))}


def _faces(names: tuple[str, ...]) -> list[Face]:
    found = _installed()
    return [Face(name, found[name]) for name in names if name in found]


@cache
def standard() -> tuple[Face, ...]:
    """The fonts that need no file: Pillow's own and the standard PDF fonts."""
    return (BUILT_IN, *(Face(name, pdf=True) for name in _STANDARD))


@cache
def trained() -> tuple[Face, ...]:
    """All faces of the training; fewer where system faces are missing."""
    return (*standard(), *_faces(_TRAINED))


@cache
def slanted() -> tuple[Face, ...]:
    """The slanted ones among the faces of the training."""
    return tuple(face for face in trained() if "Italic" in face.name or "Oblique" in face.name)


@cache
def held_out() -> tuple[Face, ...]:
    """Faces that no training page uses."""
    return tuple(_faces(_HELD_OUT))
