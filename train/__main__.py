"""`python -m train` and `torchrun -m train`: the command line's `train`."""

from pipelines.cli import main_of, train

if __name__ == "__main__":
    main_of(train, "train")
