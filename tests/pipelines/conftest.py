"""A private Ray for the tests that need one: started once, in its own folder, and ended by what started it."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def private_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import logging

    import ray

    def start() -> None:
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=128 * 2**20,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _temp_dir=str(tmp_path_factory.mktemp("r")),
            _system_config={"metrics_report_interval_ms": 200},
        )

    try:
        start()
    except Exception as error:  # Ray itself raises no other class
        if "timed out during startup" not in str(error):
            raise
        ray.shutdown()
        start()  # on a busy machine; Ray's limit of 30 s is fixed
    yield
    ray.shutdown()
