"""The family of samplers: one line each."""

from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field

from train.sampling.samplers.ancestral import AncestralSampler
from train.sampling.samplers.ddim import DDIMSampler
from train.sampling.samplers.dpm_solver import DPMSolverSampler
from train.sampling.samplers.euler import EulerSampler
from train.sampling.samplers.heun import HeunSampler
from train.sampling.samplers.unipc import UniPCSampler

AnySampler: TypeAlias = (
    EulerSampler  #
    | HeunSampler
    | DDIMSampler
    | DPMSolverSampler
    | UniPCSampler
    | AncestralSampler
)

RENAMED = {"ddpm": "ancestral", "auto": "euler, the default, which fits every objective"}


def _of_name(value: Any) -> Any:
    """`heun` stands for `{kind: heun}`.

    Raises:
        ValueError: a name of earlier versions.
    """
    kind = value.get("kind") if isinstance(value, dict) else value
    if isinstance(kind, str) and kind in RENAMED:
        raise ValueError(f"got {kind}; it is now {RENAMED[kind]}")
    return {"kind": value} if isinstance(value, str) else value


SamplerConfig = Annotated[AnySampler, Field(discriminator="kind"), BeforeValidator(_of_name)]
