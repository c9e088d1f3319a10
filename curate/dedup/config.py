"""What counts as a duplicate, and how clusters are weighed."""

from pydantic import BaseModel, ConfigDict, Field


class PerceptualConfig(BaseModel):
    """Copies by frame hashes: re-encoded, resized, letterboxed, slightly cropped or trimmed, at another frame rate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = True
    max_distance: float = Field(5.0, ge=0, le=20, description="mean bits (of 63) by which frames of copies differ")
    max_distance_moving: float = Field(
        14.0, ge=0, le=20, description="likewise, where the frames of both change at the same moments"
    )
    max_disagreement: float = Field(
        0.6, ge=0, le=1, description="share of the bits changing within half a second that may change in one copy only"
    )
    max_distance_few: float = Field(4.0, ge=0, le=20, description="mean bits where fewer than `few_frames` compare")
    few_frames: int = Field(4, ge=1, description="with fewer compared frames the stricter distance holds")
    min_overlap: float = Field(0.8, gt=0, le=1, description="share of the longer clip that both must show")
    mirrored: bool = Field(False, description="mirror images are copies too")


class SemanticConfig(BaseModel):
    """Copies by embeddings, as in SemDeDup. Off by default: what similarity means a copy depends on the encoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_similarity: float | None = Field(None, gt=0, le=1, description="cosine from which clips are copies; null: off")
    num_partitions: int | None = Field(None, ge=1, description="only clips of one partition compare; null: N / 1000")


class BalanceConfig(BaseModel):
    """Sampling weights by cluster: a cluster of n clips weighs n^(1 - exponent) in all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exponent: float = Field(
        0.5, ge=0, le=1, description="0.5: a clip weighs 1/√n; 0: all clips are equal; 1: all clusters are equal"
    )
    num_clusters: int | None = Field(
        None, ge=1, description="number of clusters; null: √(N / 2) for N clips with embeddings"
    )


class DedupConfig(BaseModel):
    """Duplicates and balance: policies over stored hashes and embeddings, decided again at will."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    perceptual: PerceptualConfig = PerceptualConfig()
    semantic: SemanticConfig = SemanticConfig()
    balance: BalanceConfig = BalanceConfig()
