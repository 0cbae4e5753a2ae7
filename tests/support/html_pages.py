"""A page of HTML as a test reads it: it has to be well-formed, and may load nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "br", "link", "img", "input", "hr"}
# What a browser would fetch, or run.
_LOADING = {"src", "srcset", "data", "poster", "action", "background", "href", "xlink:href"}
_NEVER = {"script", "link", "iframe", "object", "embed", "img", "base", "form"}


@dataclass
class _Reader(HTMLParser):
    open_ones: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in _NEVER:
            self.complaints.append(f"<{tag}>")
        names = [name for name, _ in attrs]
        if len(set(names)) != len(names):
            self.complaints.append(f"<{tag}> has an attribute twice")
        for name, value in attrs:
            if name in _LOADING and not (value or "").startswith("#"):
                self.complaints.append(f"{tag} {name}={value}")
            if name.startswith("on"):
                self.complaints.append(f"{tag} {name}")
            if name == "style" or name in ("fill", "stroke"):
                self.styles.append(value or "")
        if tag not in _VOID:
            self.open_ones.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open_ones.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open_ones or self.open_ones[-1] != tag:
            self.complaints.append(f"</{tag}> where {self.open_ones[-1:]} is open")
        else:
            self.open_ones.pop()

    def handle_data(self, data: str) -> None:
        where = self.styles if self.open_ones[-1:] == ["style"] else self.texts
        where.append(data)


def read_page(text: str) -> _Reader:
    """The texts and the tags of ``text``.  Fails where it is not whole, or would load anything."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert text.startswith("<!DOCTYPE html>\n")
    assert reader.open_ones == []
    assert reader.complaints == []
    for style in reader.styles:
        assert "@import" not in style
        assert "url(" not in style.replace("url(#", "")
    return reader


def words_of(text: str) -> str:
    """All that a person reads."""
    return " ".join(" ".join(read_page(text).texts).split())
