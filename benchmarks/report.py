"""The report of many clips: how long until a browser shows the first card, and what building it takes.

    python -m benchmarks.report [--rows 100000 1000000] [--folder FOLDER] [--beside OTHER_CHECKOUT]

Rows are synthetic: clips with a decision, reasons, scores and captions, and no videos behind them. The table has for
each number of rows, for the page in a file and for the served one (`report --serve`): seconds and peak memory of the
process that writes the page, or until the server answers; size; seconds from the address to the first card in headless
Chromium, and until the thresholds (in a file) or the funnel (served) are there. `--beside` writes and opens the page
of another reelpack.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.machine import described
from curate.cut import ShardConfig
from curate.dataset.schemas import INDEX
from curate.rules import Rule
from curate.scan import ScanConfig
from curate.select import SelectConfig, decide
from curate.storage.yaml_text import to_yaml
from tests.support.devtools import Tab, opened_tab

CLIPS_PER_FILE = 40
WRITE = """import resource, sys, time
from curate.report.build import build_report
started = time.perf_counter()
build_report(sys.argv[1])
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"""
HERE = Path(__file__).parent.parent
REPEATS = 3
WORDS = ("dog", "meadow", "rain", "street", "runs", "slowly", "river", "at dusk")


def make(folder: Path, num_rows: int) -> Path:
    """A dataset directory of so many clips, two in three of them kept, cut and captioned."""
    rng = np.random.default_rng(0)
    numbers = np.arange(num_rows)
    files = numbers // CLIPS_PER_FILE
    start_s = (numbers % CLIPS_PER_FILE) * 6.0
    ids = [f"{high:016x}{low:016x}" for high, low in rng.integers(0, 2**63, (num_rows, 2))]
    columns = {
        "clip_id": ids,
        "video_id": [f"v{file}" for file in files],
        "video_uri": [f"/films/{file % 100:02d}/film-{file:07d}.mp4" for file in files],
        "kind": pa.array(["video"] * num_rows),
        "start_s": start_s,
        "end_s": start_s + 5,
        "start_pts": (start_s * 24).astype(int),
        "end_pts": (start_s * 24).astype(int) + 120,
        "time_base": ["1/24"] * num_rows,
        "fps": np.full(num_rows, 24.0),
        "width": pa.array(np.full(num_rows, 1280), pa.int32()),
        "height": pa.array(np.full(num_rows, 720), pa.int32()),
        "num_frames": np.full(num_rows, 120),
        "duration_s": np.full(num_rows, 5.0),
        "short_side_px": np.full(num_rows, 720.0),
        "bitrate": np.round(rng.lognormal(14, 1, num_rows)),
        "motion": np.round(rng.lognormal(-4, 1.5, num_rows), 5),
        "sharpness": np.round(rng.lognormal(0, 1, num_rows), 4),
        "luminance": np.round(rng.beta(3, 3, num_rows), 4),
        "brisque": np.round(rng.normal(40, 15, num_rows), 2),
        "text_match": np.round(rng.normal(0.2, 0.05, num_rows), 4),
    }
    policy = SelectConfig(rules={"motion": Rule(min=0.004, max=0.3), "luminance": Rule(min=0.25)})
    clips = decide(pa.table(columns), policy)
    kept = clips.filter(pc.equal(clips["decision"], "keep"))
    words = rng.integers(0, len(WORDS), (kept.num_rows, 4))
    shared = {name: kept[name] for name in INDEX.names if name in kept.column_names}
    shared |= {
        "shard": pa.array([f"train-{row // 1000:06d}.tar" for row in range(kept.num_rows)]),
        "ext": pa.array(["mp4"] * kept.num_rows),
        "offset": pa.array(np.arange(kept.num_rows) % 1000 * 1_000_000 + 512),
        "size": pa.array(np.full(kept.num_rows, 900_000)),
        "caption_short": pa.array([" ".join(WORDS[at] for at in row) for row in words]),
    }
    full = {field.name: shared.get(field.name, pa.nulls(kept.num_rows, field.type)) for field in INDEX}
    (folder / "shards").mkdir(parents=True)
    pq.write_table(clips, folder / "clips.parquet")
    pq.write_table(pa.table(full, schema=INDEX), folder / "shards" / "index.parquet")
    sections = {"scan": ScanConfig(), "shards": ShardConfig(), "select": policy}
    dumped = {name: section.model_dump(mode="json") for name, section in sections.items()}
    (folder / "config.yaml").write_text(to_yaml({"curate": {"families": [], **dumped}}))
    return folder


def in_file(tab: Tab, dataset: Path, checkout: Path) -> list[float]:
    """Seconds and MiB to write the page, its MB, seconds to the first card, and until the thresholds stand."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", WRITE, str(dataset)]
    seconds, mib = map(float, subprocess.check_output(command, env=environment, text=True).split())
    page = dataset / "report" / "index.html"
    return [seconds, mib, page.stat().st_size / 1e6, *opened(tab, page.as_uri(), "#kept .clip", "#explorer .panel")]


def served(tab: Tab, dataset: Path) -> list[float]:
    """Seconds until the server answers, its peak MiB, MB of the page, and seconds as in a file."""
    started = time.perf_counter()
    with serving(dataset) as (process, url):
        ready = time.perf_counter() - started
        first, whole = opened(tab, url, "#clips .clip", "#funnel .bar")
        size = tab.run("performance.getEntries().reduce((sum, one) => sum + (one.transferSize ?? 0), 0)") / 1e6
        peak = next(line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "VmHWM" in line)
        return [ready, int(peak.split()[1]) / 1024, size, first, whole]


@contextmanager
def serving(dataset: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    command = [sys.executable, "-m", "pipelines.cli", "report", str(dataset), "--serve", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(HERE)}
    ) as one:
        assert one.stdout is not None
        try:
            yield one, one.stdout.readline().strip()
        finally:
            one.send_signal(signal.SIGINT)


def opened(tab: Tab, url: str, *selectors: str) -> list[float]:
    """Seconds from the address until each selector finds something, of the fastest of some visits."""
    visits = []
    for _ in range(REPEATS):
        tab.open("about:blank")
        started, found = time.perf_counter(), []
        tab.open(url)
        for selector in selectors:
            tab.run(f"location.hash = '{selector.split()[0]}'")  # a served section comes when it is looked at
            tab.until(f"document.querySelector('{selector}') !== null")
            found.append(time.perf_counter() - started)
        visits.append(found)
    return min(visits)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="of the datasets, which stay; none: they are removed")
    parser.add_argument("--beside", type=Path, help="checkout of another reelpack")
    arguments = parser.parse_args()
    print(described())
    print("| clips | page | made, s | peak, MiB | MB | first card, s | whole, s |\n|" + " --- |" * 7)
    with tempfile.TemporaryDirectory() as scratch, opened_tab(Path(scratch) / "profile") as tab:
        for num_rows in arguments.rows:
            folder = (arguments.folder or Path(scratch)) / str(num_rows)
            dataset = folder if folder.exists() else make(folder, num_rows)
            checkouts = {"file": HERE} | ({"file, beside": arguments.beside} if arguments.beside else {})
            rows = {name: in_file(tab, dataset, checkout) for name, checkout in checkouts.items()}
            rows["served"] = served(tab, dataset)
            for name, figures in rows.items():
                print(f"| {num_rows:,} | {name} | {' | '.join(f'{one:.2f}' for one in figures)} |", flush=True)


if __name__ == "__main__":
    main()
