"""What another attempt changes: the remedies of the findings so far."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from caption.record import Attempt, Finding, Remedy

MAX_DOUBLINGS = 3
"""Of the token limit: a text that eight times the limit does not end will not end."""
RETRY_PENALTY = 1.2
"""Repetition penalty of an attempt after a repetition."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What an attempt changes in the request of the first one: the remedies so far.

    Attributes:
        instructions: Sentences added to the prompt.
        num_doublings: How often the token limit is doubled.
        seed: Of the sampling; None: as the backend decodes.
        repetition_penalty: None: the backend's.
        frames: Number of the choice of frames, from 1 on; see `caption.frames.windows_of`.
        fallback: The second model is asked.
    """

    instructions: tuple[str, ...] = ()
    num_doublings: int = 0
    seed: int | None = None
    repetition_penalty: float | None = None
    frames: int = 1
    fallback: bool = False

    @classmethod
    def resumed(cls, earlier: Sequence[Attempt], *, has_fallback: bool) -> "Change":
        """For an attempt after those of an earlier run: a seed is in the place of their instructions."""
        if not earlier:
            return cls()
        had = [remedy for attempt in earlier for remedy in attempt.remedies]
        return cls(
            num_doublings=min(had.count(Remedy.TOKENS), MAX_DOUBLINGS),
            seed=len(earlier) + 1,
            repetition_penalty=RETRY_PENALTY if Remedy.PENALTY in had else None,
            frames=1 + had.count(Remedy.FRAMES),
            fallback=has_fallback and Remedy.BACKEND in had,
        )

    def after(self, findings: Iterable[Finding], attempt: int, *, has_fallback: bool) -> "Change":
        """With the remedies of these findings of `attempt`. An attempt that would repeat it gets a seed."""
        changed = self
        for finding in findings:
            match finding.remedy:
                case Remedy.PROMPT if finding.instruction not in self.instructions:
                    changed = replace(changed, instructions=(*changed.instructions, finding.instruction))
                case Remedy.TOKENS:
                    changed = replace(changed, num_doublings=min(self.num_doublings + 1, MAX_DOUBLINGS))
                case Remedy.PENALTY:
                    changed = replace(changed, repetition_penalty=RETRY_PENALTY)
                case Remedy.FRAMES:
                    changed = replace(changed, frames=self.frames + 1)
                case Remedy.BACKEND if has_fallback:
                    changed = replace(changed, fallback=True)
                case Remedy.SEED:
                    changed = replace(changed, seed=attempt)
        return changed if changed != self else replace(self, seed=attempt)
