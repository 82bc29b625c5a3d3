"""HTML and SVG as text in which nothing but markup is markup: whatever else is put in is escaped."""

import html
import re

# Characters that HTML does not allow, even as references.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

_EMPTY = {"br", "circle", "img", "line", "meta", "path", "polyline", "rect", "use"}


class Markup(str):
    """Text that is markup already."""


def element(name: str, /, *content: object, **attributes: object) -> Markup:
    """<name attributes>content</name>. Content is escaped unless it is Markup; None leaves an attribute or it out.

    class_ is class, and font_size is font-size; True is an attribute without a value.
    """
    given = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if name in _EMPTY:
        return Markup(f"<{name}{given}>" if name in ("br", "img", "meta") else f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{join(*content)}</{name}>")


def join(*content: object) -> Markup:
    return Markup(
        "".join(item if isinstance(item, Markup) else escape(str(item)) for item in content if item is not None)
    )


def escape(text: str) -> str:
    return html.escape(_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text))


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    return f' {name}="{escape(f"{value:.1f}" if isinstance(value, float) else str(value))}"'
