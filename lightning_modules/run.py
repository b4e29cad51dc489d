"""From a run folder back to the method it trained."""

import hashlib
import importlib
import json
from contextlib import suppress
from pathlib import Path

import yaml

from contracts.errors import LikenessError
from contracts.strict_json import parse
from lightning_modules.base import PersonalisationModule

_MANIFEST_LOST = "restore it or train again, or remove it: the run's cost is unknown then"


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
    path, arguments = _model_settings(file)
    module_name, _, class_name = path.rpartition(".")
    method = None
    if module_name.split(".")[0] == "lightning_modules":
        with suppress(ModuleNotFoundError):
            method = getattr(importlib.import_module(module_name), class_name, None)
    if not (isinstance(method, type) and issubclass(method, PersonalisationModule)):
        raise LikenessError(f"{str(file)!r}: model.class_path {path!r} is not one of this project's methods")
    return method, arguments


def settings_hash(folder: Path) -> str:
    """SHA-256 of what ``config.yaml`` says of the method beside its weights, such as the strength it draws with.

    Where the base model lies is left out: the adapter names its weights. Raises :class:`LikenessError` when that file
    is missing or damaged.
    """
    path, arguments = _model_settings(folder / "config.yaml")
    kept = {name: value for name, value in arguments.items() if name not in ("backbone", "revision")}
    return hashlib.sha256(json.dumps([path, kept], sort_keys=True).encode()).hexdigest()


def _model_settings(file: Path) -> tuple[str, dict]:
    """Class path and constructor arguments."""
    try:
        config = yaml.safe_load(file.read_text())["model"]
        return str(config["class_path"]), dict(config.get("init_args") or {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise LikenessError(
            f"{str(file.parent)!r} is not a run folder of train.py ({type(error).__name__}: {reason})"
        ) from None


def run_manifest(folder: Path) -> dict:
    """The run's ``manifest.json``; empty when the run wrote none.

    Raises :class:`LikenessError` when it is damaged, or holds NaN or an infinity.
    """
    file = Path(folder) / "manifest.json"
    if not file.exists():
        return {}
    try:
        manifest = parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LikenessError(f"{str(file)!r} is damaged ({type(error).__name__}: {error}): {_MANIFEST_LOST}") from None
    if not isinstance(manifest, dict):
        raise LikenessError(f"{str(file)!r} is damaged (it holds no object): {_MANIFEST_LOST}")
    return manifest
