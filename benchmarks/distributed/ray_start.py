"""Print, as JSON, the seconds from submission to the first line of a user's code with Ray's own tools.

For comparison with our first loss: an empty script through Ray's job API, and Ray Train with two workers, started from
a program that has imported everything and is connected. The time ends when the line runs, before its output is read.
"""

import json
import logging
import os
import secrets
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

# Ray reads these when it is imported, also in the processes that it starts.
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_urlsafe(32),
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}

import ray
import ray.train
from ray.job_submission import JobStatus, JobSubmissionClient
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from benchmarks.common.processors import wait_until_quiet

SCRIPT = "import sys, time; open(sys.argv[1], 'w').write(str(time.time()))"
TIMEOUT = 60.0  # seconds


def run_job(client: JobSubmissionClient, directory: Path, mark: Path) -> None:
    script = directory / "script.py"
    script.write_text(SCRIPT)
    deadline = time.monotonic() + TIMEOUT
    job = client.submit_job(entrypoint=f"{sys.executable} {script} {mark}")
    while not (status := client.get_job_status(job)).is_terminal():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Ray's job is {status} after {TIMEOUT:g} s")
        time.sleep(0.2)
    if status != JobStatus.SUCCEEDED:
        raise RuntimeError(f"Ray's job {status}: {client.get_job_logs(job)}")


def train(config: dict[str, Path]) -> None:
    if ray.train.get_context().get_world_rank() == 0:
        config["mark"].write_text(str(time.time()))
    ray.train.report({"loss": 1.0})


def run_training(directory: Path, mark: Path) -> None:
    DataParallelTrainer(
        train,
        train_loop_config={"mark": mark},
        scaling_config=ray.train.ScalingConfig(num_workers=2),
        run_config=ray.train.RunConfig(storage_path=str(directory)),
    ).fit()


def main(jobs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as name:
        directory, mark = Path(name), Path(name, "mark")
        context = ray.init(
            num_cpus=max(2, os.cpu_count() or 1),
            include_dashboard=True,
            log_to_driver=False,
            logging_level=logging.WARNING,
            _temp_dir=name,
        )
        try:
            client = JobSubmissionClient(f"http://{context.dashboard_url}")
            runs = {"Ray job, empty script": partial(run_job, client), "Ray Train, 2 workers": run_training}
            disturbed = 0
            seconds: dict[str, list[float]] = {subject: [] for subject in runs}
            for _ in range(jobs):
                for subject, run in runs.items():
                    disturbed += not wait_until_quiet()
                    start = time.time()
                    run(directory, mark)
                    seconds[subject].append(float(mark.read_text()) - start)
                    mark.unlink()
        finally:
            ray.shutdown()
    print(json.dumps({"seconds": seconds, "disturbed": disturbed}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
