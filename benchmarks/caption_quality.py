"""How well captions are checked, and how much a captioner looks at its clips.

    python -m benchmarks.caption_quality checks [--half held_out]
    python -m benchmarks.caption_quality grounding [--model FOLDER] [--video bbb.mp4] [--blind]

`checks` puts faults into good captions and prints precision and recall per reason code. Precision counts good captions
and written faults of other kinds; an injected fault brings others with it, so these count for recall alone. The texts
are in `tests/support/caption_texts.yaml`; its head says what the held-out half is.

`grounding` compares the likelihood of true captions with true and with other frames, on the shots of Big Buck Bunny
that the embedded captioner never saw. It ends with exit code 1 for a captioner that is not shown to look, as with
`--blind`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.machine import described
from caption.quality.match import MatchCheck, MatchConfig
from caption.quality.overflow import EncoderLimit, OverflowConfig
from caption.quality.repeated import RepeatedConfig
from tests.support.caption_confusion import Score, codes_of, confusion, ready
from tests.support.caption_faults import good, good_of_film, repeated, swapped
from tests.support.caption_grounding import Shown, blind, measure


def overflow(half: str) -> Score:
    """Captions against an encoder of 24 tokens; what they have is counted by the encoder's own class."""
    from curate.encoders.text import TextEncoder
    from curate.encoders.text_config import TextEncoderConfig

    limit = 24
    (check,) = ready([OverflowConfig(encoders=(EncoderLimit(model="minilm-l6-v2", max_tokens=limit),)).build()])
    encoder = TextEncoder(TextEncoderConfig(max_tokens=limit))
    encoder.setup()
    cases = [*good(half), *good_of_film()]
    is_over = np.array(encoder.count_tokens([one.record.text for one in cases])) > limit
    is_found = np.array([bool(codes_of([check], one)) for one in cases])
    return Score(num=int(is_over.sum()), found=int((is_over & is_found).sum()), wrong=int((~is_over & is_found).sum()))


def repeated_caption(half: str) -> Score:
    """A caption that stands on many clips of a corpus."""
    table, groups, to_find = repeated(half)
    found = RepeatedConfig().build().of_corpus(table, groups).keys()
    return Score(num=len(to_find), found=len(found & to_find), wrong=len(found - to_find))


def match_table(clips: Sequence[tuple[np.ndarray, str]]) -> str:
    """What the embedded image–text encoder tells of captions that are exchanged between clips. The bound is the best
    one of every other clip; the figures are of the rest."""
    from curate.encoders.conse import ConseConfig

    check = MatchCheck(MatchConfig(encoder=ConseConfig()))
    check.setup()
    scores = [
        np.array([check.score(one.record.text, one.evidence.frames) for one in cases]) for cases in swapped(clips)
    ]
    own, other = scores
    auc = float((own[:, None] > other).mean())
    bound = max(np.concatenate([own[::2], other[::2]]), key=lambda at: (other[::2] < at).sum() - (own[::2] < at).sum())
    found, wrong = int((other[1::2] < bound).sum()), int((own[1::2] < bound).sum())
    score = Score(num=len(other[1::2]), found=found, wrong=wrong)
    return (
        f"caption_match with ConSE: own caption above another clip's in {auc:.0%} of pairs; at {bound:.3f} precision "
        f"{score.precision:.2f}, recall {score.recall:.2f} of {score.num}"
    )


def table(scores: Mapping[str, Score]) -> str:
    lines = ["| code | faults | found | found wrongly | precision | recall | |", "|-" * 7 + "|"]
    for code, score in scores.items():
        verdict = "" if score.passes else "below the target"
        figures = f"{score.num} | {score.found} | {score.wrong} | {score.precision:.2f} | {score.recall:.2f}"
        lines.append(f"| {code} | {figures} | {verdict} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    of_checks = parts.add_parser("checks")
    of_checks.add_argument("--half", choices=("seen", "held_out"), default="held_out")
    of_grounding = parts.add_parser("grounding")
    of_grounding.add_argument("--model", type=Path, help="folder of a checkpoint; none: the embedded captioner")
    of_grounding.add_argument("--blind", action="store_true", help="show the captioner nothing")
    for part in (of_checks, of_grounding):
        part.add_argument("--video", type=Path, help="Big Buck Bunny; none: the asset bbb-film")
    arguments = parser.parse_args()
    print(described())
    if arguments.part == "grounding":
        sys.exit(0 if _grounding(arguments.model, arguments.video, arguments.blind) else 1)
    scores = confusion(arguments.half, good_of_film())
    scores |= {"overflow": overflow(arguments.half), "repeated_caption": repeated_caption(arguments.half)}
    num_good = len(good(arguments.half)) + len(good_of_film())
    print(f"{num_good} good captions, {sum(score.num for score in scores.values())} faults ({arguments.half})")
    print(table(scores))
    print(match_table([(shown.frames, shown.caption) for shown in _held_out(arguments.video)]))
    sys.exit(0 if all(score.passes for score in scores.values()) else 1)


def _held_out(video: Path | None) -> list[Shown]:
    from caption.llava.evaluate import load_held_out
    from curate.encoders import weights

    shots = load_held_out(video or weights.resolve("bbb-film"), num_frames=4)
    return [Shown(frames=one.frames, caption=one.reference, subject=one.main_subject) for one in shots]


def _grounding(model: Path | None, video: Path | None, is_blind: bool) -> bool:
    """Print the table; whether the captioner is shown to look."""
    from caption.backends.embedded import EmbeddedCaptioner, EmbeddedConfig
    from caption.backends.transformers_vlm import TransformersVlm, TransformersVlmConfig

    if model is None:
        captioner = EmbeddedCaptioner(EmbeddedConfig())
        captioner.setup()
        vlm = captioner.vlm
    else:
        vlm = TransformersVlm(TransformersVlmConfig(model=str(model)))
        vlm.setup()
    found = measure(blind(vlm.losses) if is_blind else vlm.losses, _held_out(video), "Describe this video briefly.")
    print(found.table())
    print("looks at its clips" if found.looks else "not shown to look at its clips")
    return found.looks


if __name__ == "__main__":
    main()
