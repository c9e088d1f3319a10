"""How the captions ended: a row per level, status and finding of the checks, with an example of the reason."""

from collections import Counter
from html import escape

from curate.dataset.captions import LEVELS, USABLE
from curate.report.data import DatasetView

NO_FINDING = ""


def quality(view: DatasetView) -> str:
    """The table, the most frequent rows of a level first; empty without captions. A caption has a row for each of its
    findings."""
    counted: Counter[tuple[str, str, str]] = Counter()
    examples: dict[tuple[str, str, str], str] = {}
    for record in view.captions.select(["level", "status", "findings"]).to_pylist():
        found = {one["code"]: one["detail"] for one in record["findings"] or ()} or {NO_FINDING: ""}
        for code, detail in found.items():
            key = record["level"], record["status"], code
            counted[key] += 1
            examples.setdefault(key, detail)
    if not counted:
        return ""
    order = sorted(counted, key=lambda key: (LEVELS.index(key[0]), -counted[key], key))
    rows = "".join(
        f"<tr><td>{escape(level)}</td><td>{escape(status)}{'' if status in USABLE else ', not used'}</td>"
        f"<td>{escape(code)}</td><td>{counted[level, status, code]:,}</td>"
        f'<td class="muted">{escape(examples[level, status, code])}</td></tr>'
        for level, status, code in order
    )
    head = "".join(f"<th>{name}</th>" for name in ("level", "status", "finding", "captions", "for example"))
    total, clips = view.index.num_rows, len(view.captions["clip_id"].unique())
    note = f"<p>Of {clips:,} of {total:,} clips in the index.</p>" if clips < total else ""
    return (
        f'{note}<div class="scroll"><table class="quality"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )
