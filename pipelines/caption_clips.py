"""Job entry: `ray job submit --working-dir . -- python -m pipelines.caption_clips DATASET --executor ray`."""

from pipelines.commands.caption import caption
from pipelines.commands.entry import main_of

if __name__ == "__main__":
    main_of(caption, "pipelines.caption_clips")
