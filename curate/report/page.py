"""The frame of every page: one HTML file, styles and scripts inside it, no request leaves it."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

HERE = Path(__file__).parent


def section(anchor: str, link: str, title: str, content: str) -> tuple[str, str]:
    """The link in the bar and the section; both empty where there is nothing to show."""
    if not content:
        return "", ""
    return f'<a href="#{anchor}">{link}</a>', f'<section id="{anchor}"><h2>{title}</h2>{content}</section>'


def page(
    name: str,
    summary: str,
    facts: Mapping[str, object],
    sections: Sequence[tuple[str, str]],
    *,
    styles: Iterable[str],
    scripts: Iterable[str],
    is_linked: bool = False,
) -> str:
    """The whole page.

    Args:
        name: heading; `name`, `summary` and facts are escaped here.
        summary: a sentence below it.
        facts: small print.
        sections: links with their sections, already HTML.
        styles: files of this package.
        scripts: likewise.
        is_linked: the page names these files, which a server has; else they are inside it.
    """
    rows = ((escape(key.replace("_", " ")), escape(str(value))) for key, value in facts.items())
    return Template((HERE / "report.html").read_text()).substitute(
        name=escape(name),
        summary=escape(summary),
        facts="".join(f"<div><dt>{key}</dt><dd>{value}</dd></div>" for key, value in rows),
        links="".join(link for link, _ in sections),
        body="".join(body for _, body in sections),
        styles="".join(f'<link rel="stylesheet" href="/{name}">' for name in styles)
        if is_linked
        else f"<style>\n{_texts(styles)}\n</style>",
        scripts="".join(f'<script src="/{name}"></script>' for name in scripts)
        if is_linked
        else f"<script>\n{_texts(scripts)}\n</script>",
    )


def _texts(files: Iterable[str]) -> str:
    return "\n".join((HERE / name).read_text() for name in files)
