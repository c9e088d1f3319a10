"""Job entry: `ray job submit --working-dir . -- python -m pipelines.encode_latents DATASET --executor ray`."""

from pipelines.commands.encode import encode
from pipelines.commands.entry import main_of

if __name__ == "__main__":
    main_of(encode, "pipelines.encode_latents")
