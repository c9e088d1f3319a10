"""Job entry: `ray job submit --working-dir . -- python -m pipelines.curate_videos INPUT... --out DATASET`."""

from pipelines.cli import curate, main_of

if __name__ == "__main__":
    main_of(curate, "pipelines.curate_videos")
