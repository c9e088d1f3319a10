"""`python -m reelpack` is `reelpack`."""

from pipelines.cli import main

if __name__ == "__main__":
    main()
