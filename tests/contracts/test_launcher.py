import os

import pytest

from contracts.errors import LikenessError
from contracts.launcher import LaunchedGroup, forget_stray_ranks, is_first_process, launched_group


def torchrun(size: int, local: int, rank: int) -> dict[str, str]:
    return {
        "TORCHELASTIC_RUN_ID": "none",
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(local),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank % local),
    }


def slurm(size: int, local: int | None, rank: int, job: str = "train") -> dict[str, str]:
    names = {"SLURM_NTASKS": str(size), "SLURM_PROCID": str(rank), "SLURM_JOB_NAME": job}
    return names | ({} if local is None else {"SLURM_NTASKS_PER_NODE": str(local)})


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.startswith(("SLURM", "TORCHELASTIC")) or name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "NODE_RANK"):
            monkeypatch.delenv(name)
    return monkeypatch


def given(environment: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "group"),
    [
        (torchrun(2, 2, 1), LaunchedGroup("torchrun", 2, 1, 1)),
        (torchrun(8, 4, 5), LaunchedGroup("torchrun", 8, 5, 2)),
        (slurm(4, 2, 0), LaunchedGroup("SLURM", 4, 0, 2)),
        (torchrun(1, 1, 0), None),
        (slurm(1, 1, 0), None),
        (slurm(1, None, 0), None),
        (slurm(4, 2, 0, job="bash"), None),
        ({"RANK": "1"}, None),
        ({"SLURM_PROCID": "1"}, None),
        ({}, None),
    ],
)
def test_a_group_is_one_with_a_size(
    environment: pytest.MonkeyPatch, variables: dict[str, str], group: LaunchedGroup | None
) -> None:
    given(environment, variables)
    assert launched_group() == group
    assert is_first_process() == (group is None or group.rank == 0)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (slurm(2, None, 0), "--ntasks-per-node in place of --ntasks"),
        (torchrun(3, 2, 0), "every machine the same number"),
        (torchrun(2, 2, 2), "number 2, are no group"),
        ({**torchrun(2, 2, 1), "RANK": "one"}, "RANK is 'one'"),
        ({**slurm(2, 2, 0), "SLURM_NTASKS_PER_NODE": "2(x1)"}, "SLURM_NTASKS_PER_NODE is '2(x1)'"),
    ],
)
def test_variables_that_make_no_sense_are_named(
    environment: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    given(environment, variables)
    with pytest.raises(LikenessError) as error:
        launched_group()
    assert words in str(error.value)


@pytest.mark.parametrize(
    "stray", [{"RANK": "1"}, {"SLURM_PROCID": "1"}, {"LOCAL_RANK": "3"}, {"RANK": "1", "WORLD_SIZE": "1"}]
)
def test_a_rank_without_a_group_is_forgotten(environment: pytest.MonkeyPatch, stray: dict[str, str]) -> None:
    given(environment, stray)
    assert is_first_process()
    forget_stray_ranks()
    assert not {"RANK", "SLURM_PROCID", "LOCAL_RANK"} & os.environ.keys()


def test_ranks_of_a_group_are_kept(environment: pytest.MonkeyPatch) -> None:
    lightning = {"WORLD_SIZE": "2", "LOCAL_RANK": "1", "NODE_RANK": "0"}  # what Lightning gives to those it starts
    for variables in (torchrun(2, 2, 1), slurm(2, 2, 1), lightning):
        with environment.context() as inside:
            given(inside, variables)
            forget_stray_ranks()
            assert os.environ.items() >= variables.items()
            assert not is_first_process()
