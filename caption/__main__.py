"""`python -m caption DATASET` is `reelpack caption DATASET`."""

from pipelines.cli import caption, main_of

if __name__ == "__main__":
    main_of(caption, "caption")
