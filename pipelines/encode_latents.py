"""Job entry: `ray job submit --working-dir . -- python -m pipelines.encode_latents DATASET --executor ray`."""

from pipelines.cli import encode, main_of

if __name__ == "__main__":
    main_of(encode, "pipelines.encode_latents")
