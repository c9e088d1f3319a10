"""Captions in the report: each text is there with its findings, none becomes markup, and judgments are exported."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from curate.dataset.captions import text_id
from curate.dataset.dataset import Dataset
from curate.dataset.judged import EDITED, HUMAN
from curate.report.build import build_report

CLEAR = "review.texts.forEach((text) => text.buttons.undo.click());"
"""Undoes what the page kept of an earlier test: it is one browser."""
HOSTILE = "</script><img src=x onerror=\"throw new Error('escaped')\"> a \u2028 dog"
FINDING = {"code": "repetition", "status": "rejected", "detail": "a phrase repeats <b>9</b> times", "remedy": "seed"}


def record(clip_id: str, level: str, text: str, **changes: Any) -> dict[str, Any]:
    provenance = {"backend": "test", "model": "some <i>model</i>", "revision": "1", "fingerprint": "1"}
    row = {
        "clip_id": clip_id, "media_digest": None, "level": level, "variant": 0, "text": text, "status": "ok",
        "findings": [], "finish_reason": "stop", "provenance": provenance, "prompt_id": "p", "prompt_hash": "h",
        "prompt_text": "", "frame_indices": [], "frame_times_s": [], "num_prompt_tokens": 1, "num_output_tokens": 1,
    }  # fmt: skip
    return row | changes


@pytest.fixture(scope="module")
def captioned(written, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset with records of six of its eight clips: one of each text is rejected, and one is empty."""
    folder = tmp_path_factory.mktemp("captioned") / "films"
    shutil.copytree(written.dataset, folder)
    dataset = Dataset(str(folder))
    ids = clip_ids(folder)
    rows = []
    for number, clip_id in enumerate(ids[:6]):
        rows.append(
            record(
                clip_id,
                "short",
                "" if number == 1 else f"A disc, take {number}.",
                status="empty" if number == 1 else "ok",
            )
        )
        text = HOSTILE if number == 0 else f"A disc moves over a meadow, take {number}."
        bad = {"status": "rejected", "findings": [FINDING]} if number in (0, 3) else {}
        rows.append(record(clip_id, "dense", text, **bad))
    rows.append(record(ids[2], "dense", "A variant of take 2.", variant=1))
    dataset.captions("some-captioner-12ab").publish(rows)
    original = record(ids[4], "original", "My holiday, day 4")
    dataset.captions("original-12ab").publish([original])
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"original_family": "original-12ab"}))
    return folder


def clip_ids(dataset: Path) -> list[str]:
    """The indexed clips in the order of the page."""
    indexed = set(pq.read_table(dataset / "shards" / "index.parquet")["clip_id"].to_pylist())
    clips = pq.read_table(dataset / "clips.parquet")["clip_id"].to_pylist()
    return [clip_id for clip_id in clips if clip_id in indexed]


@pytest.fixture(scope="module")
def page(captioned: Path) -> Path:
    return Path(build_report(str(captioned)))


def test_every_text_of_every_level_and_variant_is_in_the_page(page: Path) -> None:
    data = json.loads(re.search(r'id="review-data">(.*?)</script>', page.read_text(), re.DOTALL)[1])
    texts = [text for clip in data["clips"].values() for text in clip]
    assert len(texts) == 14
    assert {(text["level"], text["variant"]) for text in texts} == {
        ("short", 0),
        ("dense", 0),
        ("dense", 1),
        ("original", 0),
    }
    assert sum(text["status"] == "rejected" for text in texts) == 2
    assert data["total"] == 6


def test_captions_are_counted_by_level_status_and_finding_with_a_reason(page: Path) -> None:
    text = page.read_text()
    table = text[text.index('<table class="quality">') :]
    rows = re.findall(r"<tr>(.*?)</tr>", table[: table.index("</table>")])[1:]
    assert [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows] == [
        ["short", "ok", "", "5", ""],
        ["short", "empty, not used", "", "1", ""],
        ["dense", "ok", "", "5", ""],
        ["dense", "rejected, not used", "repetition", "2", "a phrase repeats &lt;b&gt;9&lt;/b&gt; times"],
        ["original", "ok", "", "1", ""],
    ]
    assert "<p>Of 6 of 8 clips in the index.</p>" in text


def test_a_page_without_records_has_no_review(written) -> None:
    assert 'id="review"' not in Path(build_report(str(written.dataset))).read_text()


def test_an_edit_shows_in_place_of_the_text(captioned: Path, tmp_path: Path) -> None:
    shutil.copytree(captioned, tmp_path / "films")
    dataset, clip_id = Dataset(str(tmp_path / "films")), clip_ids(captioned)[0]
    edit = record(clip_id, "dense", "What a person wrote.", prompt_id=EDITED, parents=["x"])
    dataset.captions(HUMAN).publish([edit])
    text = Path(build_report(dataset.url)).read_text()
    assert "What a person wrote." in text
    assert "onerror" not in text


@pytest.mark.browser
def test_texts_are_shown_as_they_are_and_never_as_markup(browser, page: Path) -> None:
    script = """
        const said = [...document.querySelectorAll("#review .said")].map((node) => node.textContent);
        const tags = document.querySelectorAll("#review img, #review b b, #review i").length;
        return [said.filter((text) => text.includes("onerror")), tags]"""
    assert browser.probe(page, script) == [[HOSTILE], 0]


@pytest.mark.browser
def test_filters_leave_the_texts_with_that_status_and_finding(browser, page: Path) -> None:
    script = """
        const left = () => review.texts.filter(({ node }) => !node.hidden).length;
        const choose = (name, value) => {
          review.wanted[name].value = value;
          review.wanted[name].dispatchEvent(new Event("input"));
        };
        const counts = [left()];
        choose("status", "rejected"), counts.push(left());
        choose("codes", "repetition"), counts.push(left());
        choose("level", "short"), counts.push(left());
        const options = [...review.wanted.codes.options].map(({ textContent }) => textContent);
        return [counts, options, review.note.textContent]"""
    counts, options, note = browser.probe(page, script)
    assert counts == [20, 2, 2, 0]  # 14 texts, and a place for one's own on each of six clips
    assert options == ["all", "repetition (2)"]
    assert note.startswith("0 of 6 clips")


@pytest.mark.browser
def test_keys_judge_the_text_in_focus_and_the_judgments_come_back(browser, page: Path, captioned: Path) -> None:
    script = """
        const press = (key, init = {}) => document.activeElement.dispatchEvent(
          new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...init }));
        const rejected = review.texts.filter(({ text }) => text.status === "rejected");
        review.texts[0].node.focus(), press("e");
        review.texts[0].field.value = "A <b>disc</b> of \\u2028 gold";
        press("Enter", { ctrlKey: true });
        const moved = [document.activeElement === review.texts[0].node];
        press("j"), moved.push(document.activeElement === review.texts[1].node);
        press("a"), press("u");
        rejected[0].node.focus(), press("r");
        rejected[1].node.focus(), press("a");
        const back = new Review(review.root.cloneNode(true), review.data);
        return [moved, back.judgments.jsonl(), back.texts.filter(({ line }) => line).length]"""
    moved, jsonl, num_back = browser.probe(page, CLEAR + script)
    assert moved == [True, True]
    assert num_back == 3
    lines = map(json.loads, jsonl.strip().split("\n"))  # U+2028 ends no line
    rejected, accepted, edited = sorted(lines, key=lambda line: "rae".index(line["action"][0]))
    first, fourth = clip_ids(captioned)[0], clip_ids(captioned)[3]
    assert rejected == {
        "clip_id": first,
        "level": "dense",
        "variant": 0,
        "action": "reject",
        "text_id": text_id(first, "dense", HOSTILE),
    }
    assert (accepted["clip_id"], accepted["action"]) == (fourth, "accept")
    assert (edited["clip_id"], edited["level"], edited["text"]) == (first, "short", "A <b>disc</b> of \u2028 gold")


@pytest.mark.browser
def test_a_note_goes_with_the_judgment_and_an_own_caption_has_no_judged_text(browser, page: Path) -> None:
    script = """
        const own = review.texts.find(({ text }) => text.level === "human");
        own.buttons.edit.click(), own.field.value = "Mine.", own.said.querySelector("button").click();
        const empty = review.texts.find(({ text }) => text.status === "empty");
        const disabled = [empty.buttons.accept.disabled, own.buttons.reject.disabled];
        empty.buttons.reject.click(), empty.note.value = "black", empty.note.dispatchEvent(new Event("input"));
        return [disabled, review.judgments.jsonl()]"""
    disabled, jsonl = browser.probe(page, CLEAR + script)
    own, empty = map(json.loads, jsonl.splitlines())
    assert disabled == [True, True]
    assert (own["level"], own["text_id"], own["text"]) == ("human", None, "Mine.")
    assert (empty["action"], empty["note"]) == ("reject", "black")


@pytest.mark.browser
def test_where_the_browser_stores_nothing_the_page_says_so_and_exports(browser, page: Path) -> None:
    script = """
        Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); };
        review.texts[0].buttons.accept.click();
        return [review.note.textContent, review.judgments.jsonl().split("\\n").length]"""
    note, num_lines = browser.probe(page, CLEAR + script)
    assert "this browser keeps nothing" in note
    assert num_lines == 2


@pytest.mark.browser
def test_no_request_leaves_the_page_when_every_button_was_clicked(browser, page: Path) -> None:
    script = """
        document.querySelectorAll("#review button").forEach((button) => button.click());
        const names = performance.getEntriesByType("resource").map((entry) => entry.name);
        return names.filter((name) => !name.startsWith("data:"))"""
    assert browser.probe(page, CLEAR + script) == []


@pytest.mark.browser
def test_the_review_fits_a_phone(browser, page: Path) -> None:
    probe, frame = page.with_name("narrow.html"), page.with_name("phone.html")
    script = "<script>parent.postMessage(`${document.documentElement.scrollWidth}`, '*')</script></body>"
    probe.write_text(page.read_text().replace("</body>", script))
    said = "<script>onmessage = e => document.title = e.data</script>"
    frame.write_text(f'{said}<iframe src="{probe.name}" width="400" height="2400" style="border:0"></iframe>')
    assert int(re.search(r"<title>(\d+)</title>", browser.dom(frame))[1]) <= 400
