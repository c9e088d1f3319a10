"""Perceptual duplicates: precision and recall on copies made of real shots, and whether the best copy is kept.

    python -m benchmarks.dedup [VIDEO …]
    python -m benchmarks.dedup --num-clips 100000

Every shot of the videos is written again in the ways below; all files go through the scan. Pairs of copies of one
shot are what is to be found; pairs of different shots of one film, and mirror images, are not. The thresholds were set
on the first of the demo's excerpts.

With `--num-clips`, random clips of 5 s instead, some of them with copies: seconds, memory, and the share of the copies
that the search finds, by the number of bits in which their hashes differ; and the same clips' embeddings.
"""

import argparse
import itertools
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.machine import described
from curate.dedup.balance import find_clusters
from curate.dedup.best import best
from curate.dedup.config import BalanceConfig, PerceptualConfig, SemanticConfig
from curate.dedup.frame_hash import TICKS_PER_SECOND
from curate.dedup.groups import union
from curate.dedup.perceptual import perceptual_pairs
from curate.dedup.semantic import Embeddings, semantic_pairs
from tests.support.copies import COPIES, DEMO, copies_of_shots

CLIP_S = 5
EMBEDDING_DIM = 512
COPIES_PER_DISTANCE = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", help="default: the demo's two excerpts")
    parser.add_argument("--num-clips", type=int, help="measure the search among so many random clips")
    arguments = parser.parse_args()
    print(described())
    if arguments.num_clips:
        measure_search(arguments.num_clips)
        return
    for video in arguments.videos or [str(DEMO / "bbb_a.mp4"), str(DEMO / "bbb_b.mp4")]:
        measure(video)


def measure(video: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = copies_of_shots(video, Path(folder))
    groups = union(perceptual_pairs(pa.Table.from_pylist(rows), PerceptualConfig()))
    by_id = {row["clip_id"]: row for row in rows}
    counts: Counter[str] = Counter()
    for one, other in itertools.combinations(rows, 2):
        same_shot = one["shot"] == other["shot"]
        wanted = same_shot and one["is_copy"] and other["is_copy"]
        grouped = groups.get(one["clip_id"], one["clip_id"]) == groups.get(other["clip_id"], other["clip_id"])
        counts["wanted"] += wanted
        counts["grouped"] += grouped
        counts["right"] += wanted and grouped
        if wanted and "original" in (one["how"], other["how"]):
            how = other["how"] if one["how"] == "original" else one["how"]
            counts[f"of {how}"] += 1
            counts[f"with {how}"] += grouped
    shots = sorted({row["shot"] for row in rows})
    print(f"{Path(video).name}: {len(shots)} shots, {len(rows)} clips, {counts['wanted']} pairs of copies")
    precision, recall = counts["right"] / max(1, counts["grouped"]), counts["right"] / max(1, counts["wanted"])
    print(f"  groups: precision {precision:.3f}, recall {recall:.3f}")
    for copy in COPIES[1:]:
        if copy.is_copy:
            found_with, of = counts[f"with {copy.name}"], counts[f"of {copy.name}"]
            print(f"  {copy.name:12} found with its original: {found_with}/{of}")
    kept: Counter[str] = Counter()
    for members in grouped_members(groups).values():
        kept[by_id[best([by_id[name] for name in members])]["how"]] += 1
    print(f"  kept of {sum(kept.values())} groups: {dict(kept)}")


def grouped_members(groups: dict[str, str]) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    for name, group in groups.items():
        members.setdefault(group, []).append(name)
    return members


def measure_search(num_clips: int) -> None:
    """Seconds, memory and completeness of the search among random clips that change slowly."""
    rng = np.random.default_rng(0)
    clips = drifting(rng, num_clips)
    distances = (2, 3, 4)
    chosen = rng.choice(num_clips, (len(distances), COPIES_PER_DISTANCE), replace=False)
    copies = [
        clips[rows] ^ one_bits(rng, len(rows), distance)[:, None]
        for rows, distance in zip(chosen, distances, strict=True)
    ]
    ids = np.array([f"{number:08d}" for number in range(num_clips + chosen.size)])
    blobs = [hashes.astype("<u8").tobytes() for hashes in np.concatenate([clips, *copies])]
    start = time.perf_counter()
    pairs = perceptual_pairs(pa.table({"clip_id": ids, "frame_hashes": blobs}), PerceptualConfig())
    print(f"{len(blobs):,} clips of {clips.shape[1]} hashes: {time.perf_counter() - start:.1f} s, {len(pairs)} pairs")
    found = set(pairs)
    for number, (rows, distance) in enumerate(zip(chosen, distances, strict=True)):
        first = num_clips + number * COPIES_PER_DISTANCE
        hits = sum((ids[row], ids[first + place]) in found for place, row in enumerate(rows))
        print(f"  copies that differ in the same {distance} bits of every frame: {hits / len(rows):.3f} found")
    measure_embeddings(ids[:num_clips], rng)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def measure_embeddings(ids: np.ndarray, rng: np.random.Generator) -> None:
    concepts = rng.normal(size=(max(1, len(ids) // 50), EMBEDDING_DIM)).astype(np.float32)
    vectors = concepts[rng.integers(0, len(concepts), len(ids))]
    vectors += 0.5 * rng.standard_normal(vectors.shape, np.float32)
    start = time.perf_counter()
    lists = pa.FixedSizeListArray.from_arrays(vectors.ravel(), EMBEDDING_DIM)
    embeddings = Embeddings.of([pa.table({"clip_id": ids, "embedding": lists})], "embedding", ids.tolist())
    semantic_pairs(embeddings, SemanticConfig(min_similarity=0.95))
    middle = time.perf_counter()
    find_clusters(embeddings, BalanceConfig())
    end = time.perf_counter()
    print(f"{len(ids):,} embeddings of {EMBEDDING_DIM}: copies {middle - start:.1f} s, balance {end - middle:.1f} s")


def drifting(rng: np.random.Generator, num_clips: int) -> np.ndarray:
    """Random hashes that change by a bit or two from tick to tick: (num_clips, ticks) uint64."""
    hashes = rng.integers(0, 2**63, (num_clips, CLIP_S * TICKS_PER_SECOND), dtype=np.uint64) << np.uint64(1)
    for tick in range(1, hashes.shape[1]):
        hashes[:, tick] = hashes[:, tick - 1] ^ one_bits(rng, num_clips, 1) ^ one_bits(rng, num_clips, 1)
    return hashes


def one_bits(rng: np.random.Generator, num: int, num_bits: int) -> np.ndarray:
    """(num,) uint64 with `num_bits` different bits of a hash set."""
    places = rng.random((num, 63), dtype=np.float32).argpartition(num_bits, axis=1)[:, :num_bits] + 1
    return (np.uint64(1) << places.astype(np.uint64)).sum(1, dtype=np.uint64)


if __name__ == "__main__":
    main()
