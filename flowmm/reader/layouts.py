"""What a training context is made of: its segments, and what the contexts of one batch have in common."""

from dataclasses import dataclass

from flowmm.reader.pages import PageStyle

TEXT, IMAGE, ABSENT, LINKED, TABLE = "text", "image", "absent", "linked", "table"
COUNT, LIST, REPEAT, TOLD = "count", "list", "repeat", "told"


@dataclass(frozen=True)
class Segment:
    """A text part, or an image where ``page``, with so many facts and filler sentences.

    An image shows lines, or badges, or a table of so many ``values`` beside each label.
    """

    facts: int
    fillers: int = 0
    page: bool = False
    badges: bool = False
    values: int = 0

    @property
    def kind(self) -> str:
        """What its facts are asked as."""
        if not self.page:
            return TEXT
        return TABLE if self.values else LINKED if self.badges else IMAGE


@dataclass(frozen=True)
class Layout:
    """What the contexts of one batch have in common."""

    segments: tuple[Segment, ...]
    questions: int  # about facts of the context; at most half of them, or elimination is learnt
    absent: int = 0  # about keys the context does not hold
    links: int = 0  # statements that lead to a fact; each is asked about
    pictured: float = 0.0  # share of them on pages of lines; the others are in text
    count: bool = False  # ask how many facts there are
    listed: bool = False  # ask for all keys
    repeated: int = 0  # requests to go on with a text from some words of it, and to transcribe the page, if it is one
    near: float = 0.0  # share of keys that nearly equal another one
    strange: float = 0.0  # share of filler sentences with words that are spelled
    longest: int = 10  # letters in a one-word key
    plain: bool = False  # values of four digits only
    rows: int = 0  # of each page, in cells
    columns: int = 0
    style: PageStyle | None = None
