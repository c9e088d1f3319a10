"""`reelpack serve`: a page to prompt a trained run."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import ConfigOption, DecoderOption, SetOption, StepOption
from pipelines.settings import resolved_config


def serve(
    run: Annotated[
        list[str],
        typer.Argument(help="run directory of a training; several: a cascade, from the first stage to the last"),
    ],
    out: Annotated[Path | None, typer.Option(help="folder of what is generated; none: RUN/generated")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="of the page; 0: a free one")] = 7860,
    host: Annotated[str, typer.Option(help="address to listen on; others than loopback need --network")] = "127.0.0.1",
    network: Annotated[
        bool, typer.Option("--network", help="other machines that have the address and its token may use the page")
    ] = False,
    autoencoder: DecoderOption = None,
    step: StepOption = None,
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """Prompt a trained run in the browser: until Ctrl-C."""
    resolved = resolved_config(config, set).sample
    if step is not None:
        resolved = resolved.model_copy(update={"step": step})
    from pipelines.drivers.serve import serve as serve_run
    from train.autoencoder.given import autoencoder_given

    try:
        serve_run(
            run,
            resolved,
            out=out,
            host=host,
            port=port,
            is_network=network,
            on_ready=lambda url: typer.echo(url),
            autoencoder=None if autoencoder is None else autoencoder_given(autoencoder),
        )
    except KeyboardInterrupt:
        typer.echo("stopped; what was generated stays", err=True)
