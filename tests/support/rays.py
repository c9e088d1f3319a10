"""Commands with a private Ray on a machine that is busy: Ray's own limits are of wall clock."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

NOT_STARTED = "Ray did not start on this machine"
"""Said by a command whose Ray took more than 30 s: that limit of Ray's is fixed, and another attempt may do."""
ATTEMPTS = 5


def patient_environment() -> dict[str, str]:
    """This process's, without what it says of another Ray, and with limits that a busy machine keeps."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    limits = {
        "RAY_health_check_failure_threshold": "100",  # a node that answers late is not dead
        "RAY_worker_register_timeout_seconds": "600",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    }
    return clean | limits | {"OMP_NUM_THREADS": "1"}


def run_with_ray(words: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`python WORDS`, and again where its Ray did not start."""
    command = [sys.executable, *words]
    for attempt in range(ATTEMPTS):
        with tempfile.TemporaryDirectory(prefix="rp-", ignore_cleanup_errors=True) as short:  # for paths of sockets
            done = subprocess.run(command, env={**env, "RAY_TMPDIR": short}, capture_output=True, text=True)
        if NOT_STARTED not in done.stderr or attempt == ATTEMPTS - 1:
            break
    return done


DEATH = "REELPACK_DEATH"


def death_of_a_worker(at: str, told: Path) -> dict[str, str]:
    """Environment of a job, as `ray job submit` hands it over: the worker that first publishes something named `at`
    dies as it does, and leaves its pid in the file `told`."""
    hook = {
        "worker_process_setup_hook": "tests.support.rays.die_once",
        "env_vars": {DEATH: json.dumps([at, str(told)])},
    }
    return {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": hook})}


def die_once() -> None:
    name, told = json.loads(os.environ[DEATH])

    def on_event(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.rename" and Path(str(arguments[1])).name == name and not Path(told).exists():
            Path(told).write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)
