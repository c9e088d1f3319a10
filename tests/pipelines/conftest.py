"""A private Ray for the tests that need one: started once, in its own folder, and ended after the last of them."""

import pytest

from tests.support.rays import ATTEMPTS


@pytest.fixture(scope="module")
def private_ray(tmp_path_factory: pytest.TempPathFactory) -> None:
    import logging

    import ray

    if ray.is_initialized():
        return

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

    for attempt in range(ATTEMPTS):
        try:
            return start()
        except Exception as error:  # Ray itself raises no other class
            if "timed out during startup" not in str(error) or attempt == ATTEMPTS - 1:
                raise
            ray.shutdown()  # the machine is busy; Ray's limit of 30 s is fixed


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Ends the private Ray where no file follows that uses it: its processes hold a gigabyte."""
    if nextitem is not None and "private_ray" in nextitem.path.read_text():
        return
    if "private_ray" in item.path.read_text():
        import ray

        ray.shutdown()  # of nothing, where no test of the file started it
