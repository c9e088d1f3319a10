"""For mkdocs: what a page links to outside of `docs/` is no page of the site, and is named instead."""

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)\s]+)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    docs, here = Path(config["docs_dir"]), Path(page.file.abs_src_path).parent

    def named(link: re.Match[str]) -> str:
        file = (here / link[2].partition("#")[0]).resolve()
        return link[0] if file.is_relative_to(docs) else f"{link[1]} (`{file.relative_to(docs.parent)}`)"

    return LINK.sub(named, markdown)
