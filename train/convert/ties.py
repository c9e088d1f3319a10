"""Which tensors of a published model hold the numbers of one of ours, and in what order: one list reads and writes.

A tie is undone bit for bit. What is linear in the weights holds of their gradients as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """An arrangement of a tensor's numbers, and the way back.

    Attributes:
        of_rows: rows are moved as a whole, so that the same holds of the rows of a low-rank update.
    """

    ours: Callable[[Tensor], Tensor]
    theirs: Callable[[Tensor], Tensor]
    of_rows: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Tie:
    """One tensor of ours, which is theirs, or several of theirs of equal shape below each other."""

    ours: str
    theirs: tuple[str, ...]
    forms: tuple[Form, ...]  # one for each of theirs

    def take(self, theirs: Sequence[Tensor]) -> Tensor:
        """Theirs to ours."""
        parts = [form.ours(tensor) for form, tensor in zip(self.forms, theirs, strict=True)]
        return parts[0].contiguous() if len(parts) == 1 else torch.cat(parts)

    def give(self, ours: Tensor) -> list[Tensor]:
        """Ours to theirs."""
        parts = ours.chunk(len(self.theirs))
        return [form.theirs(part).contiguous() for form, part in zip(self.forms, parts, strict=True)]


AS_IT_IS = Form(ours=lambda x: x, theirs=lambda x: x)


def flat(*shape: int) -> Form:
    """Theirs has this shape; ours is one row."""
    return Form(ours=lambda x: x.flatten(), theirs=lambda x: x.reshape(shape), of_rows=False)


def flat_patches(channels: int, *patch: int) -> Form:
    """A convolution's weight, (D, C, *patch), to that of a linear layer on patches, (D, C · patch)."""
    return Form(ours=lambda x: x.flatten(1), theirs=lambda x: x.unflatten(1, (channels, *patch)), of_rows=False)


def channels_first(*patch: int) -> Form:
    """Rows of the output layer: theirs are (*patch, C), ours (C, *patch)."""
    last = len(patch)
    return Form(
        ours=lambda x: x.unflatten(0, (*patch, -1)).movedim(last, 0).flatten(0, last),
        theirs=lambda x: x.unflatten(0, (-1, *patch)).movedim(0, last).flatten(0, last),
    )


def halves_of_pairs(num_heads: int) -> Form:
    """Features of heads as rows: theirs rotate pairs of neighbours, ours feature i of the first half with feature i of
    the second."""
    return Form(
        ours=lambda x: x.unflatten(0, (num_heads, -1, 2)).movedim(2, 1).flatten(0, 2),
        theirs=lambda x: x.unflatten(0, (num_heads, 2, -1)).movedim(1, 2).flatten(0, 2),
    )


def tied(ours: str, *theirs: str, form: Form = AS_IT_IS) -> Tie:
    """Tensors of one form."""
    return Tie(ours=ours, theirs=theirs, forms=(form,) * len(theirs))


def layers(ours: str, *theirs: str, form: Form = AS_IT_IS) -> list[Tie]:
    """Weights and biases of one form."""
    return [tied(f"{ours}.{part}", *(f"{name}.{part}" for name in theirs), form=form) for part in ("weight", "bias")]


def attention(
    ours: str, theirs: str, *, rotated: Form = AS_IT_IS, normed: bool = False, bias: bool = True
) -> list[Tie]:
    """Queries and keys have the form of what is rotated; `normed`: they have norms; `bias`: and biases, as values."""
    parts = ("weight", "bias") if bias else ("weight",)
    norms = (tied(f"{ours}.norm_{x}.weight", f"{theirs}.norm_{x}.weight", form=rotated) for x in "qk")
    return [
        *(tied(f"{ours}.to_q.{part}", f"{theirs}.to_q.{part}", form=rotated) for part in parts),
        *(
            Tie(
                ours=f"{ours}.to_kv.{part}",
                theirs=(f"{theirs}.to_k.{part}", f"{theirs}.to_v.{part}"),
                forms=(rotated, AS_IT_IS),
            )
            for part in parts
        ),
        *layers(f"{ours}.out", f"{theirs}.to_out.0"),
        *(norms if normed else ()),
    ]
