"""The page that prompts a run. The driver behind `reelpack serve`."""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from curate.storage.place import check_folder, is_url
from curate.threads import import_decoders
from pipelines.generation.generator import Generator
from pipelines.serve.access import Access
from pipelines.serve.server import PageServer
from pipelines.serve.studio import Studio
from train.autoencoder.config import AutoencoderConfig
from train.sampling.config import SampleConfig

logger = logging.getLogger(__name__)

FOLDER = "generated"
"""Of a run."""


def serve(
    runs: Sequence[str],
    config: SampleConfig,
    *,
    out: Path | None,
    host: str,
    port: int,
    is_network: bool,
    on_ready: Callable[[str], None],
    autoencoder: AutoencoderConfig | None = None,
) -> None:
    """Answer until an interruption.

    Args:
        runs: Directory of a training run; several: stages of a cascade.
        config: How to sample where the page says nothing else.
        out: Folder of the gallery; None: `generated` in the last run's.
        host: Address to listen on.
        port: 0: a free one.
        is_network: Other machines may ask.
        on_ready: Is told the address of the page.
        autoencoder: What decodes, of the same latents; None: what made those that the run was trained on.

    Raises:
        ValueError: No trained run, or an address that other machines reach though nobody said that they may.
        OSError: The port is taken.
    """
    access = Access(host, is_network=is_network)
    if out is None and is_url(runs[-1]):
        raise ValueError(f"{runs[-1]} is in a bucket: say with --out in which folder of this machine the gallery is")
    generator = Generator(runs, config, autoencoder)
    folder = Path(runs[-1]) / FOLDER if out is None else out
    check_folder(folder, f"--out {folder}")
    studio = Studio(generator, config, folder)
    server = PageServer(host, port, access, studio)
    import_decoders()
    generator.load()
    answering = threading.Thread(target=server.serve_forever, name="page", daemon=True)
    answering.start()
    try:
        on_ready(server.url)
        studio.work()
    finally:
        server.shutdown()
        server.server_close()
