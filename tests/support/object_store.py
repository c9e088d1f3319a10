"""A real S3 API on loopback, and the environment that clients of it need."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec

KEY, SECRET = "AKIDOFTHETESTS", "this-secret-is-stored-nowhere"


@contextmanager
def serve_s3() -> Iterator[dict[str, str]]:
    """Serve in this process; yields the variables that name the address and hold the credentials.

    fsspec keeps a file system with the address that it had when it was made: what came before is forgotten, as is
    what this server leaves.
    """
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    file_systems = fsspec.get_filesystem_class("s3")
    file_systems.clear_instance_cache()
    try:
        yield {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        file_systems.clear_instance_cache()
        server.stop()
