"""`python -m caption DATASET` is `reelpack caption DATASET`."""

from pipelines.commands.caption import caption
from pipelines.commands.entry import main_of

if __name__ == "__main__":
    main_of(caption, "caption")
