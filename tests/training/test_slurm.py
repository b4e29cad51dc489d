"""The job file for SLURM, with a stand-in for ``srun`` that starts two tasks on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from performance.faults.inject import fault
from pocket.tiny.world import TinyWorld

ROOT = Path(__file__).parents[2]
SRUN = """#!/bin/bash
for rank in 0 1; do
    SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_NODEID=0 SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=2 "$@" &
done
wait -n; code=$?; wait; exit $code
"""
SCONTROL = '#!/bin/bash\necho "$@" >> "$CALLS"\n'


def test_a_job_that_is_told_to_end_saves_its_state_and_goes_back_into_the_queue(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    for name, text in {
        "srun": SRUN,
        "scontrol": SCONTROL,
        "python": f'#!/bin/bash\nexec {sys.executable} "$@"',
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "likeness", "SLURM_JOB_NODELIST": "localhost", "CALLS": str(calls)}
    environment = {**os.environ, **job, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = ["bash", "configs/trainer/slurm.sbatch", "configs/trainer/cpu.yaml"]
    settings = {"trainer.num_nodes": 1, "trainer.benchmark": False, "data.first_stage": "null", "trainer.max_steps": 3}
    arguments = [*script, *tiny_world.arguments(tmp_path / "run", checkpoint_every=100, **settings)]

    told = [*arguments, *fault("Signal", name="SIGTERM", step=2)]
    done = subprocess.run(told, cwd=ROOT, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 143, done.stderr.decode()[-3000:]
    assert calls.read_text() == "requeue 7\n"
    state = torch.load(tmp_path / "run" / "checkpoints" / "interrupted.ckpt", weights_only=True)
    assert state["global_step"] == 2
