"""The report of many clips: how long until a browser shows the first card, and what building it takes.

    python -m benchmarks.report [--rows 100000 1000000] [--folder FOLDER]

Rows are synthetic: clips with a decision, reasons, scores and captions, and no videos behind them. For each number of
rows the table has: seconds and peak memory to write the page, its size, seconds until headless Chromium has loaded it
and shows a card; and the same of the served page (`report --serve`), from the start of the server.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.cut import ShardConfig
from curate.dataset.schemas import INDEX
from curate.rules import Rule
from curate.scan import ScanConfig
from curate.select import SelectConfig, decide
from curate.storage.yaml_text import to_yaml

CLIPS_PER_FILE = 40
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
        "video_uri": [f"s3://films/{file % 100:02d}/film-{file:07d}.mp4" for file in files],
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
    kept = clips.filter(pa.compute.equal(clips["decision"], "keep"))
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
