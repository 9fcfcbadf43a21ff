from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flowmm.inputs import ReadOptions, pdf, read
from flowmm.inputs.pdf import _scale

SENTENCE = "a page with enough text on it"


def kinds(path, **options) -> list[tuple[int, str]]:
    return [(part.source.page, part.kind) for part in read([path], ReadOptions(**options))]


def picture(width, height, x=0, y=0):
    from reportlab.lib.utils import ImageReader

    return lambda canvas: canvas.drawImage(ImageReader(Image.new("RGB", (8, 8), "red")), x, y, width, height)


def text_and(*drawings):
    def draw(canvas):
        canvas.drawString(10, 80, SENTENCE)
        for drawing in drawings:
            drawing(canvas)

    return draw


def test_auto_takes_text_where_there_is_some_and_the_picture_elsewhere(make_pdf):
    path = make_pdf(SENTENCE, picture(200, 100), "page 7")
    assert kinds(path) == [(1, "text"), (2, "image"), (3, "image")]


@pytest.mark.parametrize(("text", "kind"), [("x" * 19, "image"), ("x" * 20, "text"), ("x " * 19, "image")])
def test_twenty_printable_characters_make_a_text_layer(make_pdf, text, kind):
    assert kinds(make_pdf(text)) == [(1, kind)]


# The page has 200 x 100 points, so a picture of 50 x 40 covers a tenth.
@pytest.mark.parametrize(("width", "both"), [(49, False), (51, True)])
def test_auto_takes_both_where_pictures_cover_more_than_a_tenth(make_pdf, width, both):
    path = make_pdf(text_and(picture(width, 40)))
    assert kinds(path) == [(1, "text"), (1, "image")][: 1 + both]


def test_pictures_are_counted_together(make_pdf):
    assert len(kinds(make_pdf(text_and(picture(26, 40), picture(26, 40, x=100))))) == 2


@pytest.mark.parametrize(("zoom", "both"), [(1, False), (6, True)])
def test_pictures_inside_a_form_object_count_as_large_as_they_are_shown(make_pdf, zoom, both):
    def form(canvas):
        canvas.beginForm("form")
        picture(10, 10)(canvas)
        canvas.endForm()
        canvas.scale(zoom, zoom)
        canvas.doForm("form")

    assert len(kinds(make_pdf(text_and(form)))) == 1 + both


def test_auto_takes_both_where_form_fields_are_filled_in(make_pdf):
    def field(canvas):
        canvas.acroForm.textfield(name="f", value="typed value", x=10, y=10, width=150, height=40, fontSize=30)

    text, image = read([make_pdf(text_and(field))])
    assert "typed" not in text.payload
    dark = image.payload.crop((0, image.payload.height // 2, *image.payload.size)).point(lambda value: value < 60)
    assert dark.getbbox() is not None


def test_links_alone_leave_a_page_text(make_pdf):
    assert len(kinds(make_pdf(text_and(lambda canvas: canvas.linkURL("http://example.org", (0, 0, 50, 50)))))) == 1


def test_the_mode_can_be_chosen(make_pdf):
    path = make_pdf(SENTENCE)
    assert kinds(path, pdf="text") == [(1, "text")]
    assert kinds(path, pdf="image") == [(1, "image")]
    assert kinds(path, pdf="both") == [(1, "text"), (1, "image")]


def test_text_mode_takes_a_short_text_that_auto_would_not(make_pdf):
    assert read([make_pdf("page 7")], ReadOptions(pdf="text"))[0].payload == "page 7"


def test_text_mode_refuses_a_page_without_text(make_pdf, refused):
    message = refused(make_pdf(SENTENCE, picture(200, 100)), pdf="text")
    assert "page 2 has no text layer" in message
    assert "--pdf image" in message


def test_both_gives_the_picture_alone_where_there_is_no_text(make_pdf):
    assert kinds(make_pdf(picture(200, 100)), pdf="both") == [(1, "image")]


def test_lines_end_in_one_newline_without_blanks(make_pdf):
    path = make_pdf("first line of the page   \nsecond line of it")
    assert read([path])[0].payload == "first line of the page\nsecond line of it"


def test_a_word_split_at_the_line_end_is_joined_and_a_range_of_years_is_not(make_pdf):
    path = make_pdf("this is an exam-\nple for 2024-\n2025, it is")
    assert read([path])[0].payload == "this is an example for 2024-\n2025, it is"


def test_pages_can_be_chosen(make_pdf, refused):
    path = make_pdf(*[f"{SENTENCE} number {n}" for n in (1, 2, 3)])
    assert [part.payload[-1] for part in read([path], ReadOptions(pages="3,1-2"))] == ["3", "1", "2"]
    assert "there is no page 4, the document has 3" in refused(path, pages="2-4")


def test_a_page_is_drawn_to_the_default_budget(make_pdf):
    (part,) = read([make_pdf("A4", size=(595, 842))], ReadOptions(pdf="image"))
    width, height = part.payload.size
    assert part.payload.mode == "RGB"
    assert 0.99e6 < width * height <= 1e6
    assert abs(height / width - 842 / 595) < 0.01


def test_a_small_page_is_drawn_at_three_times_its_size_at_most(make_pdf):
    assert read([make_pdf("x", size=(100, 50))])[0].payload.size == (300, 150)


def test_a_giant_page_is_drawn_to_the_budget(make_pdf):
    (part,) = read([make_pdf("x", size=(14400, 14400))], ReadOptions(max_pixels=10_000))
    assert (part.payload.size, part.payload.getpixel((50, 50))) == ((99, 99), (255, 255, 255))


@given(st.floats(1, 14400), st.floats(1, 14400), st.integers(1000, 10**7))
def test_the_scale_uses_the_budget_but_never_exceeds_it(width, height, budget):
    from math import ceil

    scale = _scale(width, height, budget)
    assert ceil(width * scale) * ceil(height * scale) <= max(budget, ceil(width * scale), ceil(height * scale))
    assert (width * scale + 1) * (height * scale + 1) == pytest.approx(budget, rel=1e-6)


def test_a_strip_of_a_page_is_refused_as_picture_but_not_as_text(make_pdf, refused):
    path = make_pdf(SENTENCE, size=(6100, 30))
    assert kinds(path, pdf="auto") == [(1, "text")]
    assert "page 1 is 6100 x 30, longer than 200 times" in refused(path, pdf="image")


def test_an_encrypted_pdf_needs_its_password(make_pdf, refused):
    path = make_pdf(SENTENCE, encrypt="geheim")
    assert refused(path).endswith("is encrypted\nPass its password with --password.")
    assert "the password does not open it" in refused(path, password="offen")
    assert read([path], ReadOptions(password="geheim"))[0].payload == SENTENCE


def test_a_password_does_not_disturb_a_pdf_without_one(make_pdf):
    assert read([make_pdf(SENTENCE)], ReadOptions(password="geheim"))[0].payload == SENTENCE


@pytest.mark.parametrize("data", [b"%PDF-1.4 garbage", b"%PDF-1.7\n%%EOF"])
def test_a_damaged_pdf_is_refused(tmp_path, refused, data):
    (tmp_path / "bad.pdf").write_bytes(data)
    assert "is a damaged PDF" in refused(tmp_path / "bad.pdf")


def raw_pdf(pages: bytes) -> bytes:
    """A PDF whose page tree is ``pages``; there are no pages to point to."""
    head = b"%PDF-1.4\n"
    catalog = b"1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n"
    body = head + catalog + b"2 0 obj\n" + pages + b"\nendobj\n"
    table = b"xref\n0 3\n0000000000 65535 f \n%010d 00000 n \n%010d 00000 n \n" % (len(head), len(head + catalog))
    return body + table + b"trailer<</Size 3/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(body)


def test_a_pdf_without_pages_is_refused(tmp_path, refused):
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.4 garbage")
    refused(tmp_path / "bad.pdf")  # PDFium remembers this error
    (tmp_path / "none.pdf").write_bytes(raw_pdf(b"<</Type/Pages/Kids[]/Count 0>>"))
    assert "is a PDF without pages" in refused(tmp_path / "none.pdf")


def test_a_damaged_page_is_refused_by_its_number(tmp_path, refused):
    (tmp_path / "lost.pdf").write_bytes(raw_pdf(b"<</Type/Pages/Kids[9 0 R]/Count 1>>"))
    assert "page 1 is damaged" in refused(tmp_path / "lost.pdf")


def test_a_pdf_with_bytes_before_its_mark_is_read_if_it_is_named_so(make_pdf, tmp_path):
    (tmp_path / "mail.pdf").write_bytes(b"\xef\xbb\xbf\r\nX-Header: 1\r\n" + make_pdf(SENTENCE).read_bytes())
    assert read([tmp_path / "mail.pdf"])[0].payload == SENTENCE


def test_two_threads_never_use_pdfium_at_once(make_pdf):
    path = make_pdf(SENTENCE)
    with ThreadPoolExecutor(1) as pool:
        with pdf._LOCK:
            future = pool.submit(read, [path])
            with pytest.raises(TimeoutError):
                future.result(timeout=0.2)
        assert future.result(timeout=10)[0].payload == SENTENCE
