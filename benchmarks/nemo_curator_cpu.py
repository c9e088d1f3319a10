"""NeMo Curator's video steps that need no GPU, run by the Python of its own environment for `benchmarks/curate.py`.

    VENV/bin/python benchmarks/nemo_curator_cpu.py VIDEOS OUT

Clips of four seconds at fixed stride (its shot detector needs a GPU), transcoded, motion from the H.264 vectors.
"""

import sys

import ray
from nemo_curator.backends.ray_data import RayDataExecutor
from nemo_curator.pipeline import Pipeline
from nemo_curator.stages.video.clipping.clip_extraction_stages import ClipTranscodingStage, FixedStrideExtractorStage
from nemo_curator.stages.video.filtering.motion_filter import MotionFilterStage, MotionVectorDecodeStage
from nemo_curator.stages.video.io.clip_writer import ClipWriterStage
from nemo_curator.stages.video.io.video_reader import VideoReader

LOGICAL_CPUS = 8
"""Its actors hold a CPU each, and its tasks ask for another one: with two it waits for ever."""


def main() -> None:
    videos, out = sys.argv[1:]
    pipeline = Pipeline(name="curate")
    for stage in (
        VideoReader(input_video_path=videos),
        FixedStrideExtractorStage(clip_len_s=4, clip_stride_s=4, min_clip_length_s=1, limit_clips=0),
        ClipTranscodingStage(num_cpus_per_worker=1, encoder="libopenh264"),
        MotionVectorDecodeStage(num_cpus_per_worker=1),
        MotionFilterStage(score_only=True),
        ClipWriterStage(
            output_path=out,
            input_path=videos,
            upload_clips=True,
            dry_run=False,
            generate_embeddings=False,
            generate_previews=False,
            generate_captions=False,
        ),
    ):
        pipeline.add_stage(stage)
    ray.init(num_cpus=LOGICAL_CPUS, include_dashboard=False)
    pipeline.run(RayDataExecutor())


if __name__ == "__main__":
    main()
