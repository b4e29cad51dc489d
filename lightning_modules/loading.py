"""From a run folder back to the method it trained."""

import importlib
import json
from contextlib import suppress
from pathlib import Path

import yaml

from contracts.errors import LikenessError
from lightning_modules.base import PersonalisationModule


def load_run(folder: str | Path, backbone: str | None = None) -> PersonalisationModule:
    """The trained method of a run folder, in evaluation mode; ``backbone`` overrides where the base model lies.

    Raises :class:`LikenessError` when the folder is no run, or its adapter belongs to another backbone.
    """
    folder = Path(folder)
    method, arguments = run_settings(folder)
    if backbone is not None:
        arguments["backbone"] = backbone
    try:
        module = method(**arguments)
    except TypeError as error:
        raise LikenessError(f"{str(folder / 'config.yaml')!r}: model.init_args: {error}") from error
    module.load_adapter(folder / "adapter.safetensors")
    return module.eval()


def run_settings(folder: Path) -> tuple[type[PersonalisationModule], dict]:
    """Class and constructor arguments of the run's method, from its ``config.yaml``.

    Raises :class:`LikenessError` when that file is missing or damaged, or names no method of this project.
    """
    file = folder / "config.yaml"
    try:
        config = yaml.safe_load(file.read_text())["model"]
        path, arguments = str(config["class_path"]), dict(config.get("init_args") or {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise LikenessError(
            f"{str(folder)!r} is not a run folder of train.py ({type(error).__name__}: {reason})"
        ) from None
    module_name, _, class_name = path.rpartition(".")
    method = None
    if module_name.split(".")[0] == "lightning_modules":
        with suppress(ModuleNotFoundError):
            method = getattr(importlib.import_module(module_name), class_name, None)
    if not (isinstance(method, type) and issubclass(method, PersonalisationModule)):
        raise LikenessError(f"{str(file)!r}: model.class_path {path!r} is not one of this project's methods")
    return method, arguments


def run_manifest(folder: Path) -> dict:
    """The run's ``manifest.json``; empty when the run wrote none."""
    file = Path(folder) / "manifest.json"
    return json.loads(file.read_text()) if file.exists() else {}
