"""report.html: self-contained, escaped, complete; and it opens in a browser without a network."""

import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from fedprofile.report import words
from fedprofile.report.page import write_page
from fedprofile.report.plots import write_plots

_VOID = {"meta", "img"}
_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class _Page(HTMLParser):
    """Text, tags and attributes of a page; fails where a tag is not closed in order."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.words, self._open = [], [], [], []
        self.feed(source)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)


def _write(report, tmp_path):
    return write_page(report, tmp_path, write_plots(report, tmp_path)).read_text(encoding="utf-8")


def test_the_page_says_everything_and_loads_nothing(report, drawn, tmp_path):
    source = write_page(report, tmp_path, drawn).read_text(encoding="utf-8")
    page = _Page(source)
    for told in [*words.MODEL_NAMES.values(), *report["statements"], *report["warnings"], "Upload"]:
        assert told in page.text, told
    for told in (report["run"]["command"], report["run"]["config_sha256"], report["privacy"]["mechanism"]):
        assert told in page.text
    for role in ("ecommerce-1", "medical-3", "fused_scores", "0.997", "not measured"):
        assert role in page.text
    links = [value for name, value in page.attributes if name in ("src", "href", "action", "srcset", "data")]
    assert links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert {"script", "link", "iframe", "object", "form"}.isdisjoint(page.tags)
    assert "@import" not in source
    assert "url(" not in source
    assert page.tags.count("img") == 9
    targets = {value for name, value in page.attributes if name == "id"}
    assert {link[1:] for link in links if link.startswith("#")} <= targets


def test_no_name_becomes_markup(bare, tmp_path):
    hostile = '"><img src=http://x onerror=alert(1)><script>alert(1)</script>\x1b\u202e'
    bare["tasks"] = {hostile: bare["tasks"]["uninsured"] | {"levels": [hostile, hostile]}}
    bare["privacy"]["label_eps"] = {hostile: 1.0}
    bare["run"] |= {"name": hostile, "command": hostile}
    bare["data"]["parties"][0]["id"] = hostile
    bare["statements"], bare["warnings"] = [hostile], [hostile]
    bare["wire"]["up"] = {hostile: {"messages": 1, "bytes": 1}}
    bare["seconds"] = {hostile: 1.0}
    source = _write(bare, tmp_path)
    page = _Page(source)
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert {value[:5] for name, value in page.attributes if name in ("src", "href")} <= {
        "data:",
        "#task",
        "#lear",
        "#priv",
        "#sett",
        "#repr",
    }
    assert "\x1b" not in source
    assert "\u202e" not in source


def test_nulls_say_why(bare, tmp_path):
    page = _Page(_write(bare, tmp_path))
    assert "not given: baselines=none" in page.text
    assert "nothing was masked" in page.text
    assert "true labels were released" in page.text
    assert "read from masked sums" not in page.text


@pytest.mark.skipif(_CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_without_a_network_shows_page_and_plots(report, drawn, tmp_path):
    from PIL import Image

    path = write_page(report, tmp_path, drawn)
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars --disable-extensions"
    flags += " --disable-background-networking --disable-component-update --disable-sync --proxy-server=127.0.0.1:9"
    shot = tmp_path / "page.png"
    subprocess.run(
        [_CHROMIUM, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1100,2600",
         f"--screenshot={shot}", path.as_uri()],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    with Image.open(shot) as image:
        green = sum(n for n, (r, g, b) in image.convert("RGB").getcolors(10**7) if g > r + 60 and g > b + 20)
    assert green > 100, "the pooled network's green, which only plots have, is not on the page"
