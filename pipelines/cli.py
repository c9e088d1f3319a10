"""The `reelpack` command: one line here and one file of `pipelines.commands` per command.

`--config` takes a YAML file (or a shipped one by name), `--set section.key=value` changes one value.
"""

import pkgutil

import typer

from pipelines.commands.entry import run

COMMANDS = (
    ("curate", "Curate"),
    ("select", "Curate"),
    ("checkout", "Curate"),
    ("retry", "Curate"),
    ("forget", "Curate"),
    ("plan", "Curate"),
    ("shots", "Curate"),
    ("status", "Inspect"),
    ("explain", "Inspect"),
    ("search", "Inspect"),
    ("log", "Inspect"),
    ("diff", "Inspect"),
    ("verify", "Inspect"),
    ("vacuum", "Inspect"),
    ("doctor", "Inspect"),
    ("config", "Inspect"),
    ("caption", "Caption and encode"),
    ("encode", "Caption and encode"),
    ("export", "Caption and encode"),
    ("train-autoencoder", "Caption and encode"),
    ("autoencoder-check", "Caption and encode"),
    ("train-captioner", "Caption and encode"),
    ("train-clip", "Caption and encode"),
    ("train", "Train"),
    ("train-stages", "Train"),
    ("train-plan", "Train"),
    ("compare", "Train"),
    ("train-export", "Train"),
    ("train-import", "Train"),
    ("sample", "Train"),
    ("serve", "Train"),
    ("evaluate", "Train"),
    ("upsample", "Train"),
    ("report", "Inspect"),
    ("weights", "Embedded models"),
    ("demo", "Embedded models"),
)
"""Name and panel of each command, in the order of `--help`. `train-plan` is `train_plan` in
`pipelines/commands/train_plan.py`."""

app = typer.Typer(
    help="Raw videos in, a trained video diffusion transformer out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for name, panel in COMMANDS:
    function = name.replace("-", "_")
    app.command(name, rich_help_panel=panel)(pkgutil.resolve_name(f"pipelines.commands.{function}:{function}"))


def main(argv: list[str] | None = None) -> None:
    """Run the command line; `argv` is what follows `reelpack`, None the arguments of this process."""
    run(app, argv)


if __name__ == "__main__":
    main()
