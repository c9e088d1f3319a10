"""Job entry: `ray job submit --working-dir . -- python -m pipelines.curate_videos INPUT... --out DATASET`."""

from pipelines.commands.curate import curate
from pipelines.commands.entry import main_of

if __name__ == "__main__":
    main_of(curate, "pipelines.curate_videos")
