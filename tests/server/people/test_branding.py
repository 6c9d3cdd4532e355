"""An operator's name, logo and colors on the pages, and what is refused of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearerguard.errors import ConfigurationError
from bearerguard.server import Colors, PeopleOptions
from bearerguard.server.pages import SAMPLES, TEMPLATES, Pages, branding
from bearerguard.server.pages.branding import contrast
from tests.server.harness import Make
from tests.server.people.harness import PeopleHarness

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><script>alert(1)</script></svg>'
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 30
WEBP = b"RIFF\0\0\0\0WEBPVP8 "
VARIABLE = re.compile(r"--([a-z-]+): (#[0-9a-f]{6});")


def login(**options: Any) -> str:
    return Pages("Site", **options).page("login", **SAMPLES["login"]).body.decode()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (SVG, "svg+xml"),
        (
            b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- made by hand -->\n<!DOCTYPE svg>' + SVG,
            "svg+xml",
        ),
        (PNG, "png"),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (WEBP, "webp"),
    ],
)
def test_a_logo_is_an_image_beside_the_name_and_nothing_else_of_it_is_in_the_page(
    tmp_path: Path, content: bytes, kind: str
) -> None:
    (tmp_path / "logo").write_bytes(content)
    harness = PeopleHarness(tmp_path, logo=tmp_path / "logo", site_name="Field Recordings")
    page = harness.visitor().get("/oauth/login")
    assert f'<img class="logo" src="data:image/{kind};base64,' in page.html
    assert "alert(1)" not in page.html
    assert "Field Recordings" in page.text
    assert 'class="mark"' not in page.html
    assert page.policy["img-src"] == "data:"


def test_a_page_without_a_logo_may_load_no_image(tmp_path: Path) -> None:
    page = PeopleHarness(tmp_path).visitor().get("/oauth/login")
    assert "img-src" not in page.policy
    assert "<img" not in page.html


@pytest.mark.parametrize(
    ("site", "mark"),
    [("Field Recordings", ">F<"), ("élan", ">É<"), ("127.0.0.1:8000", "<svg"), ("[::1]", "<svg")],
)
def test_the_mark_is_the_first_letter_and_never_a_digit_of_an_address(site: str, mark: str) -> None:
    found = re.search(
        r'class="mark" aria-hidden="true"(.*?)</span>',
        Pages(site).page("start", login="/").body.decode(),
    )
    assert found
    assert mark in found[0]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read (FileNotFoundError)"),
        (b"GIF89a", "is no picture: name an SVG"),
        (b"<html><svg></svg>", "is no picture"),
        (PNG + b"\0" * 65_536, "make it smaller than 65536"),
    ],
)
def test_a_logo_that_cannot_be_used_is_refused_at_start_up(
    tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    if content is not None:
        (tmp_path / "logo").write_bytes(content)
    with pytest.raises(ConfigurationError, match="^logo=: .*" + re.escape(complaint)):
        Pages("Site", logo=tmp_path / "logo")


@pytest.mark.parametrize("name", ["", " ", "two\nlines", 5])
def test_a_name_that_nobody_can_read_is_refused_at_start_up(tmp_path: Path, name: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^site_name=: pass a name of one line"):
        PeopleHarness(tmp_path, site_name=name)


@pytest.mark.parametrize(
    ("colors", "complaint"),
    [
        ({"accent": "green"}, r"Colors\(accent=\): 'green' is no color: write it as #rrggbb"),
        ({"accent": "#0b6"}, "is no color"),
        ({"accent": 5}, "is no color"),
        ({"accent": "#0b6e4f\n"}, "is no color"),
        (
            {"accent": "#ffcc00"},
            r"contrast of 1\.4, and text needs 4\.5 .*choose a darker one, such as #",
        ),
        ({"accent_dark": "#101010"}, r"Colors\(accent_dark=\): .*choose a lighter one, such as #"),
        ({"background": "#333333"}, r"Colors\(background=\): .*choose a lighter one, such as #"),
        ({"background_dark": "#eeeeee"}, r"Colors\(background_dark=\): .*choose a darker one"),
        ({"accent": "#1f4fd1", "background": "#c9c9c9"}, "contrast"),
    ],
)
def test_colors_that_are_hard_to_read_are_refused(colors: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Colors(**colors)


@pytest.mark.parametrize(
    ("given", "name"),
    [("#ffcc00", "accent"), ("#101010", "accent_dark"), ("#333333", "background")],
)
def test_the_color_that_a_message_proposes_is_accepted(given: str, name: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Colors(**{name: given})
    proposed = str(refused.value).rpartition(" ")[2]
    assert getattr(Colors(**{name: proposed}), name) == proposed


hexes = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")


@given(hexes)
def test_whatever_color_is_accepted_each_text_on_a_page_has_enough_contrast(color: str) -> None:
    """Buttons, links and avatars, also while the pointer is on them, on light and dark pages."""
    try:
        style = Colors(accent=color).style()
    except ConfigurationError:
        return
    light, dark = (dict(VARIABLE.findall(rule)) for rule in style.splitlines())
    for found, palette in ((light, branding._LIGHT), (dark, branding._DARK)):
        for ground in (palette["card"], palette["ground"]):
            assert contrast(found["accent"], ground) >= 4.5
            assert contrast(found["accent-strong"], ground) >= 4.5
        assert contrast(found["on-accent"], found["accent"]) >= 4.5
        assert contrast(found["on-accent"], found["accent-strong"]) >= 4.5
        assert contrast(found["accent-strong"], found["tint"]) >= 4.5
        assert contrast(palette["text"], found["tint"]) >= 4.5


def test_the_colors_that_others_are_compared_with_are_those_of_the_style_sheet() -> None:
    light, _, dark = (TEMPLATES / "style.css").read_text().partition("prefers-color-scheme: dark")
    for sheet, palette in ((light, branding._LIGHT), (dark, branding._DARK)):
        found = dict(VARIABLE.findall(sheet))
        assert {name: found[name] for name in palette} == palette


def test_a_color_for_light_pages_leaves_dark_ones_as_they_are() -> None:
    assert "not all and (prefers-color-scheme: dark)" in Colors(background="#fffdf5").style()
    assert Colors(background="#fffdf5").style().count("@media") == 1
    assert "--ground: #000000" in login(colors=Colors(background_dark="#000000"))
    assert Colors().style() == ""


def test_contrast_is_that_of_the_guidelines() -> None:
    assert contrast("#000000", "#ffffff") == 21
    assert round(contrast("#777777", "#ffffff"), 2) == 4.48


def test_colors_are_passed_as_colors(make: Make) -> None:
    wrong: Any = "#0b6e4f"
    with pytest.raises(ConfigurationError, match=r"^colors=: pass Colors\(\.\.\.\)"):
        make(people=PeopleOptions(colors=wrong))
