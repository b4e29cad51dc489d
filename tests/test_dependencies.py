"""pyproject.toml is the one list of dependencies: the lock file and the conda environment follow it."""

import re
import subprocess
import sys
import tomllib
import venv
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
LOCK_LINES = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
LOCKED = {canonicalize_name(line.split("==")[0]): Version(line.split("==")[1]) for line in LOCK_LINES}


def _closure(requirements: list[str]) -> dict[str, list[Requirement]]:
    """What each package that the requirements pull in is asked for, from the installed packages' metadata."""
    asked: dict[str, list[Requirement]] = {}
    waiting, seen = [Requirement(text) for text in requirements], set()
    while waiting:
        requirement = waiting.pop()
        asked.setdefault(canonicalize_name(requirement.name), []).append(requirement)
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        for text in metadata.requires(requirement.name) or []:
            inner = Requirement(text)
            extras = requirement.extras or {""}
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(inner)
    return asked


def test_the_lock_pins_plain_versions_only() -> None:
    for line in LOCK_LINES:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line), f"requirements.lock: {line}"


@pytest.mark.parametrize("text", DECLARED)
def test_a_declared_dependency_is_locked_inside_its_range(text: str) -> None:
    requirement = Requirement(text)
    version = LOCKED[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version), f"{text} but requirements.lock has {version}"


def test_the_lock_holds_all_that_the_dependencies_pull_in_and_nothing_else() -> None:
    try:
        installed = {name: Version(Version(metadata.version(name)).public) for name in LOCKED}
    except metadata.PackageNotFoundError:
        installed = {}
    if installed != LOCKED:
        pytest.skip("this is not the environment of requirements.lock, which `make setup` makes")
    asked = _closure(DECLARED)
    if metadata.version("torch").endswith("+cpu"):  # a CUDA build pulls in packages that the lock leaves to pip
        assert set(asked) == set(LOCKED)
    for name in set(asked) & set(LOCKED):
        for requirement in asked[name]:
            assert requirement.specifier.contains(LOCKED[name], prereleases=True), f"{requirement}: {LOCKED[name]}"


def test_the_lock_needs_no_gpu_and_no_torchvision() -> None:
    assert LOCKED["torch"] == Version("2.13.0")
    unwanted = [name for name in LOCKED if re.match(r"torchvision|nvidia|cuda|triton|opencv-.*headless", name)]
    assert not unwanted


def test_malicious_releases_of_lightning_are_out_of_range() -> None:
    lightning = next(Requirement(text) for text in DECLARED if text.startswith("lightning"))
    assert not any(lightning.specifier.contains(version) for version in ("2.6.2", "2.6.3", "3.0.0"))


def test_the_conda_environment_lists_the_same_dependencies() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, _, pip = environment["dependencies"]
    assert environment["name"] == PROJECT["name"]
    assert python == f"python{PROJECT['requires-python']}"
    assert sorted(pip["pip"]) == sorted(DECLARED)


@pytest.mark.parametrize("way", [[], ["--editable"]], ids=["install", "editable"])
def test_pip_refuses_to_install_the_checkout(way: list[str], tmp_path: Path) -> None:
    """It would put modules named evaluate, metrics and train where other packages look for their own."""
    venv.create(tmp_path)
    python = tmp_path / "bin" / "python"
    before = sorted(tmp_path.rglob("*"))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index", "--no-deps"]
    done = subprocess.run([*pip, *way, str(ROOT)], capture_output=True, text=True)
    assert done.returncode != 0
    assert "Likeness is not installed, it runs from its checkout: `make setup`" in done.stdout + done.stderr
    assert sorted(tmp_path.rglob("*")) == before
