"""The served report in a real browser: clips play, are searched, and what is shown is in the address."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from curate.dataset.dataset import Dataset
from curate.report.build import build_report
from curate.report.data import DatasetView, read_dataset
from curate.shards.tar import TarReader, read_member
from pipelines.serve.access import Access
from pipelines.viewer.library import Library
from pipelines.viewer.server import ReportServer
from tests.curate.report.conftest import Written, written  # noqa: F401
from tests.curate.report.test_against import versioned  # noqa: F401
from tests.curate.report.test_review import captioned  # noqa: F401
from tests.support.curated import caption, curated
from tests.support.devtools import Tab, opened_tab

CARDS = "document.querySelectorAll('.served .clip')"
NOTE = "document.querySelector('.finder [aria-live]').textContent"
VIDEO = "document.querySelector('.player video')"
PLAYING = f"{VIDEO}?.currentTime > 0 && [{VIDEO}.videoWidth, {VIDEO}.videoHeight]"


@contextmanager
def served(url: str) -> Iterator[ReportServer]:
    server = ReportServer("127.0.0.1", 0, Access("127.0.0.1", is_network=False), Library(url))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def server(captioned: Path) -> Iterator[ReportServer]:  # noqa: F811
    with served(str(captioned)) as server:
        yield server


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with opened_tab(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def page(tab: Tab, server: ReportServer) -> Iterator[Tab]:
    tab.open(server.url)
    tab.until(f"{CARDS}.length")
    tab.problems.clear()
    yield tab
    clips = server.library.view.clips
    gone = clips.filter(pc.field("video_id") == "gone")["clip_id"].to_pylist()
    assert not [problem for problem in tab.problems if problem.rpartition("/")[2].strip() not in gone]


def clip_ids(tab: Tab) -> list[str]:
    return list(tab.run(f"[...{CARDS}].map(card => card.dataset.clip)"))


@pytest.mark.browser
def test_clips_play_from_their_shards_and_rejected_ones_from_their_sources(page: Tab) -> None:
    assert page.run("location.search") == ""  # the token is in the cookie
    page.run(f"{CARDS}[0].querySelector('.screen').click()")
    assert page.until(PLAYING) == [112, 64]
    page.press("Escape")
    assert page.run("document.querySelectorAll('.player').length") == 0
    card = "document.querySelector('[data-reasons*=\"letterbox\"]')"
    page.run(f"{card}.querySelector('.play').click()")
    assert page.until(PLAYING) == [112, 64]
    page.run("document.querySelector('.served [data-words*=\"gone.mp4\"]').scrollIntoView()")
    missing = "document.querySelector('.served .stage.missing')"
    assert "no picture" in page.until(f"{missing}?.textContent")
    page.run(f"{missing}.querySelector('.play').click()")
    assert "gone.mp4" in page.until(f"{missing}.querySelector('.problem')?.textContent")
    assert "letterbox_fraction" in page.run(f"{card}.querySelector('.story .fails').textContent")


@pytest.mark.browser
def test_what_is_asked_is_in_the_address_and_comes_back(page: Tab) -> None:
    page.type(".finder [name=q]", "crosses sky")
    assert page.until(f"{NOTE} === '6 clips' && {CARDS}.length") == 6
    page.run("(field => { field.value = 'motion'; field.dispatchEvent(new Event('input', { bubbles: true })) })"
             "(document.querySelector('.finder [name=sort]'))")  # fmt: skip
    page.until("location.search === '?q=crosses+sky&sort=motion'")
    page.until("document.querySelector('.served').ariaBusy === 'false'")
    sorted_ids = clip_ids(page)
    page.run("history.back()")
    page.until("location.search === '?q=crosses+sky' && document.querySelector('.finder [name=sort]').value === ''")
    page.run("history.forward()")
    page.until("location.search.endsWith('sort=motion')")
    page.run("window.isOld = true")
    page.call("Page.reload")
    page.until(f"!window.isOld && {NOTE} === '6 clips' && {CARDS}.length")
    assert clip_ids(page) == sorted_ids
    assert page.run("document.querySelector('.finder [name=q]').value") == "crosses sky"
    page.type(".finder [name=q]", "zebra")
    page.until(f"{NOTE} === '0 clips' && document.querySelector('.grid').textContent.startsWith('No clip fits')")
    assert page.run("getComputedStyle(document.querySelector('.pager')).display") == "none"
    page.run("document.querySelector('.grid .chip').click()")
    page.until(f"location.search === '' && {CARDS}.length > 6")


@pytest.mark.browser
def test_a_caption_that_is_edited_on_a_card_is_stored_as_a_review_is(tab: Tab, tmp_path: Path) -> None:
    made = curated(tmp_path)
    caption(made.dataset)
    clip_id, other = made.dataset.read_index()["clip_id"].to_pylist()
    with served(made.url) as server:
        tab.open(server.url)
        card = f"document.querySelector('[data-clip=\"{clip_id}\"]')"
        tab.until(f"{card}.querySelector('.judging').open = true")
        tab.until(f"{card}.querySelector('.text')")
        tab.run(f"{card}.querySelector('.text').focus()")
        tab.press("e")
        tab.type("textarea", "A square\nmoves.")
        tab.run("[...document.querySelectorAll('.text .chip')].find(one => one.textContent === 'keep').click()")
        assert tab.run("document.querySelector('.saving').textContent").startswith("1 text judged")
        assert made.dataset.read_index()["caption_short"][0].as_py() == f"caption of {clip_id}", "not saved yet"
        tab.run("document.querySelector('.saving button').click()")
        tab.until("document.querySelector('.saving').textContent.startsWith('1 stored')")
        assert made.dataset.read_index()["caption_short"].to_pylist() == ["A square moves.", f"caption of {other}"]
        assert made.dataset.captions("human").read()["prompt_id"].to_pylist() == ["review/edit"]
        tab.until(f"{card}.querySelector('.caption').textContent === 'A square moves.'")
        late = {"clip_id": clip_id, "level": "short", "action": "reject", "text_id": "of an older text"}
        ((line, reason),) = server.library.judge(json.dumps(late))["left_out"]
        assert line == 1 and "no longer the current one" in reason
        with made.dataset.writer("captions"), pytest.raises(ValueError, match="is being written by"):
            server.library.judge(json.dumps(late))


@pytest.mark.browser
def test_another_decision_lies_beside_this_one_and_is_in_the_address(tab: Tab, versioned: DatasetView) -> None:  # noqa: F811
    with served(versioned.url) as server:
        first = server.library.edition.against("1")
        counts = {which: int(mask.sum()) for which, mask in first.masks.items()}
        tab.problems.clear()
        tab.open(server.url)
        tab.until(f"{CARDS}.length")
        tab.run("(field => { field.value = '1'; field.dispatchEvent(new Event('input', { bubbles: true })) })"
                "(document.querySelector('.finder [name=against]'))")  # fmt: skip
        tab.until("document.querySelector('[data-differ=there]').click() || true")
        tab.until(f"location.search === '?against=1&differ=there' && {NOTE} === '{counts['there']} clips'")
        tab.run("window.isOld = true")
        tab.call("Page.reload")
        tab.until(f"!window.isOld && {NOTE} === '{counts['there']} clips' && {CARDS}.length")
        said = tab.run(f"[...{CARDS}].map(card => card.querySelector('.against').dataset.differs)")
        assert said == ["any there"] * counts["there"]
        tab.run("location.hash = 'explore'")
        tab.until("document.querySelector('#explore .laid') && document.querySelector('.differing')")
        laid = tab.run("overlay.explorer.panels.map(panel => panel.laid.kept.reduce((sum, bin) => sum + bin))")
        kept = first.clips.filter(pc.equal(first.clips["decision"], "keep")).num_rows
        assert max(laid) == kept, "every clip that version 1 keeps is in a bar"
        counted = "countDiffering(overlay.explorer.{}, overlay.explorer.other.decisions)"
        assert tab.run(counted.format("clips.decided")) == counts
        tab.run("(field => { field.value = 'there'; field.dispatchEvent(new Event('input', { bubbles: true })) })"
                "(document.querySelector('.cliplist select'))")  # fmt: skip
        rows = tab.run("document.querySelectorAll('.cliplist tbody tr').length")
        assert rows == tab.run(counted.format("outcome.decisions"))["there"] > 0
        tab.run("history.back()")
        tab.until("!location.search.includes('list.show')")
        tab.run("(field => { field.value = ''; field.dispatchEvent(new Event('input', { bubbles: true })) })"
                "(document.querySelector('.finder [name=against]'))")  # fmt: skip
        tab.until("location.search === '' && !document.querySelector('.laid, .compared, .against')")
        assert not tab.problems


@pytest.mark.browser
def test_sections_come_when_they_are_looked_at(page: Tab) -> None:
    for anchor, said in (("funnel", "files in"), ("explore", "All clips under these thresholds")):
        page.run(f"document.getElementById('{anchor}').scrollIntoView()")
        page.until(f"document.getElementById('{anchor}').textContent.includes('{said}')")


@pytest.mark.browser
def test_a_page_in_a_file_plays_what_lies_beside_it_and_has_its_filters_in_the_address(
    tab: Tab,
    captioned: Path,  # noqa: F811
) -> None:
    page = Path(build_report(str(captioned), with_clips=2))
    assert len(list(page.parent.glob("clips/*.mp4"))) == 2
    tab.open(f"{page.as_uri()}?kept.sort=motion")
    card = "document.querySelectorAll('#kept .clip')"
    values = tab.run(f"[...{card}].map(card => JSON.parse(card.dataset.values).motion)")
    assert values == sorted(values)
    played = f"[...{card}].find(card => card.querySelector('.play').dataset.media)"
    tab.run(f"{played}.querySelector('.play').click()")
    assert tab.until(PLAYING) == [112, 64]
    tab.run(f"[...{card}].find(card => !card.querySelector('.play').dataset.media).querySelector('.play').click()")
    assert "reelpack report --serve" in tab.run("document.querySelector('.player .problem').textContent")
    tab.type("#kept input", "crosses sky 3")
    assert tab.run(f"[...{card}].filter(card => !card.hidden).length") == 1
    assert "kept.q=crosses" in tab.run("location.search")
    tab.run("history.back()")
    assert (
        tab.until(f"[...{card}].filter(card => !card.hidden).length === 8 && location.search") == "?kept.sort=motion"
    )


def test_a_dataset_without_clips_or_anything_else_has_a_page(captioned: Path, tmp_path: Path) -> None:  # noqa: F811
    clips = pq.read_table(captioned / "clips.parquet")
    for name, part, said in (("empty", clips[:0], "There is no clip yet"), ("bare", clips, 'class="grid"')):
        (tmp_path / name).mkdir()
        pq.write_table(part, tmp_path / name / "clips.parquet")
        (tmp_path / name / "config.yaml").write_bytes((captioned / "config.yaml").read_bytes())
        library = Library(str(tmp_path / name))
        assert said in library.edition.page.decode() and "fold" not in library.edition.page.decode()
        assert library.clips({"q": "meadow", "sort": "motion"})["total"] == (6 if len(part) else 0)
        assert library.section("captions") == library.section("map") == ""


def test_an_answer_is_of_one_reading_of_a_dataset_that_changes(
    captioned: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library, stamps, read = Library(str(captioned)), count(), []
    monkeypatch.setattr(library, "_stamp", lambda: (str(next(stamps)),))
    monkeypatch.setattr(
        "pipelines.viewer.library.read_dataset", lambda *given: read.append(read_dataset(*given)) or read[-1]
    )
    assert library.clips({"q": "meadow"})["total"] == 6 and len(read) == 1


def test_parts_are_the_bytes_of_the_shard_and_others_are_refused(server: ReportServer) -> None:
    dataset = Dataset(server.library.dataset.url)
    row = dataset.read_index().to_pylist()[1]
    whole, path = read_member(TarReader(dataset.layout.shards), row), f"/clips/{row['clip_id']}"
    host = f"127.0.0.1:{server.server_address[1]}"
    headers = {"Host": host, "Cookie": server.access.set_cookie.partition(";")[0]}
    assert answer(server, path, {**headers, "Range": "bytes=0-9"}) == (206, whole[:10])
    assert answer(server, path, {**headers, "Range": "bytes=100-"}) == (206, whole[100:])
    assert answer(server, path, headers) == (200, whole)
    assert answer(server, f"/clips/{'0' * 32}", headers)[0] == 404
    assert answer(server, "/api/clips?sort=nothing", headers)[0] == 400
    assert answer(server, path, {"Host": host})[0] == 403
    assert answer(server, path, {**headers, "Host": "rebound.example"})[0] == 403


def answer(server: ReportServer, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=30)
    connection.request("GET", path, headers=headers)
    got = connection.getresponse()
    return got.status, got.read()


def test_a_taken_port_and_a_shard_that_is_gone_are_said(server: ReportServer, captioned: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(OSError, match="try another --port, or 0"):
        ReportServer("127.0.0.1", server.server_address[1], server.access, server.library)
    with pytest.raises(ValueError, match="reelpack curate INPUT"):
        Library(str(tmp_path / "nothing")).edition  # noqa: B018
