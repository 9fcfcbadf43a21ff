"""Where the context of a MileBench sample ends and its question begins."""

import pytest

from flowmm.bench.milebench_text import pieces, split


@pytest.mark.parametrize(
    ("text", "context", "question"),
    [
        # rule 1: the last marker behind the last image
        ("{image#1}{image#2}Question: How many?", "{image#1}{image#2}", "Question: How many?"),
        ("{image#1}A caption. Question: Who?", "{image#1}A caption. ", "Question: Who?"),
        ("A page. Question: Who? Paul. Question: When?", "A page. Question: Who? Paul. ", "Question: When?"),
        # rule 2: words behind the last image, whatever they are
        ("{image#1}{image#2}\nDifference:", "{image#1}{image#2}", "Difference:"),
        ("Question: Who? {table#1} Tell me.", "Question: Who? {table#1}", "Tell me."),
        # rule 3: a question in the line before the images at the end
        ("Be exact.\nWho is it?\n{image#1} {image#2}\n", "Be exact.\n\n{image#1} {image#2}\n", "Who is it?"),
        ("{image#1} Question: name the second {image#2}", "{image#1} {image#2}", "Question: name the second"),
        ("{image#1}Is it the same as {image#2}", "{image#1}Is it the same as {image#2}", ""),
        ("Lufe is green.\nWho is green?", "Lufe is green.\n", "Who is green?"),
        # rule 4: no question at all
        ("{image#1}{image#2}", "{image#1}{image#2}", ""),
        ("Colours go round. {image#1}", "Colours go round. {image#1}", ""),
    ],
)
def test_the_first_rule_that_fits_divides_the_text(text: str, context: str, question: str) -> None:
    left, asked = split(text)
    assert asked == question
    assert [piece.strip() if isinstance(piece, str) else piece for piece in pieces(left)] == [
        piece.strip() if isinstance(piece, str) else piece for piece in pieces(context)
    ]


def test_texts_and_images_come_in_their_order_without_blanks() -> None:
    assert pieces("One: {image#2} \n{table#1} then {image#2}.") == ["One: ", 2, 1, " then ", 2, "."]
