"""A run folder: what ``train.py`` leaves behind, and the way back from it to the method."""

import hashlib
import importlib
import inspect
import json
from argparse import ArgumentError
from collections.abc import Mapping, Set
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import GenericAlias
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser
from torch import Tensor

from contracts.entries import split_step
from contracts.errors import LikenessError
from contracts.files import file_sha256, read_file
from contracts.method_modules import is_named
from contracts.strict_json import parse
from contracts.strict_yaml import MAX_BYTES, parse_yaml
from lightning_modules.base import NOT_TRAINED_WITH, STEPS, PersonalisationModule
from networks.adapter_file import adapter_identity, read_adapter

_MANIFEST_LOST = "restore it or train again, or remove it: the run's cost is unknown then"


def _is_of(kind: Any, value: object) -> bool:
    """Whether a configuration may have ``value`` for an argument of this type."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--values", type=GenericAlias(dict, (str, kind)))  # alone, null is taken for any type
    try:
        parser.parse_object({"values": {"value": value}})
    except ArgumentError:
        return False
    return True


class Run:
    """One run folder. Each file is read when something of it is first asked for, and then kept.

    What is missing or damaged raises :class:`LikenessError` at that moment, on one line that names the file.
    """

    def __init__(self, folder: str | Path, step: int | None = None) -> None:
        """``step`` names one of the adapters that were kept while it trained; without it, it is the last."""
        self.folder = Path(folder)
        self.step = step
        self.config_file = self.folder / "config.yaml"
        self.manifest_file = self.folder / "manifest.json"
        self.adapter_file = self.folder / "adapter.safetensors" if step is None else self.adapter_of(step)

    @classmethod
    def named(cls, place: str) -> "Run":
        """What a user calls ``FOLDER`` or ``FOLDER@STEP``; ``~`` is the home folder."""
        return cls(*split_step(place))

    def __str__(self) -> str:
        return str(self.folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration that the run was trained with."""
        try:
            config = parse_yaml(read_file(self.config_file, MAX_BYTES).decode())
        except FileNotFoundError:
            raise LikenessError(
                f"{str(self.folder)!r} is not a run folder of train.py: it has no config.yaml"
            ) from None
        except UnicodeDecodeError:
            self._damaged("it is not UTF-8 text")
        except OSError as error:
            self._damaged(f"it cannot be read: {error.strerror}")
        except (yaml.YAMLError, ValueError) as error:  # the latter for a date that does not exist
            self._damaged(f"it is no YAML: {' '.join(str(error).split())}")
        if not isinstance(config, dict):
            self._damaged("it holds no keys")
        return config

    def adapter_of(self, step: int) -> Path:
        """Where the adapter of a step lies, or would."""
        return self.folder / "adapters" / f"step-{step:07d}.safetensors"

    def adapter_steps(self) -> list[int]:
        """The steps whose adapters were kept, in order."""
        files = (self.folder / "adapters").glob("step-*.safetensors")
        numbers = (file.stem.removeprefix("step-") for file in files)
        return sorted(int(number) for number in numbers if number.isascii() and number.isdecimal())

    @property
    def class_path(self) -> str:
        """Where the method's class lies, such as ``lightning_modules.SpotDiff``."""
        path = self._part("model").get("class_path")
        if not isinstance(path, str):
            self._damaged("model.class_path is missing")
        return path

    @property
    def arguments(self) -> dict[str, Any]:
        """Constructor arguments of the method."""
        arguments = self._part("model").get("init_args") or {}
        if not isinstance(arguments, dict):
            self._damaged("model.init_args holds no keys")
        return arguments

    @property
    def data(self) -> Mapping[str, Any]:
        """Arguments of the DataModule."""
        data = self._part("data")
        return data.get("init_args") or data

    @cached_property
    def settings_hash(self) -> str:
        """SHA-256 of what the configuration says of the method beside its weights, such as its scale.

        Where the base model lies is left out: the adapter names its weights.
        """
        return self._hash_without({"backbone", "revision"})

    @cached_property
    def training_hash(self) -> str:
        """SHA-256 of what the configuration says of how the method is trained: without what it generates with."""
        return self._hash_without(NOT_TRAINED_WITH)

    def _hash_without(self, names: Set[str]) -> str:
        kept = {name: value for name, value in self.arguments.items() if name not in names}
        try:
            text = json.dumps([self.class_path, kept], sort_keys=True)
        except TypeError as error:
            self._damaged(f"model.init_args: {error}")
        return hashlib.sha256(text.encode()).hexdigest()

    def with_arguments(self, **arguments: object) -> "Run":
        """The same run, whose method is made with other arguments.

        Raises:
            LikenessError: the method has no such argument, or a value is of another type.
        """
        try:
            known = inspect.signature(self.method, eval_str=True).parameters
        except NameError:  # some types are imported for type checkers only, and nothing can be said of them
            known = inspect.signature(self.method).parameters
        name_of_method = f"{self.method.__name__}, the method of {self},"
        for name, value in arguments.items():
            if name not in known:
                raise LikenessError(f"{name_of_method} has no argument {name!r}")
            kind = known[name].annotation
            if kind is not inspect.Parameter.empty and not isinstance(kind, str) and not _is_of(kind, value):
                raise LikenessError(
                    f"{name_of_method} takes {inspect.formatannotation(kind)} as {name!r}, not {value!r}"
                )
        other = Run(self.folder, self.step)
        other.adapter_file = self.adapter_file
        other.config = {**self.config, "model": {**self._part("model"), "init_args": {**self.arguments, **arguments}}}
        return other

    @property
    def own_value(self) -> float:
        """Where the run itself stands in a sweep of its method's knob."""
        if (name := self.method.knob) == STEPS:
            return 1.0 if self.step is None else self.step / self._steps
        argument = inspect.signature(self.method).parameters.get(name)
        if argument is None:
            raise LikenessError(f"{self}: {self.method.__name__} has no {name!r} to turn: its `knob` names another one")
        return float(self.arguments.get(name, argument.default))

    def turned(self, value: float) -> "Run":
        """The same run with its method's knob at another value.

        Raises:
            LikenessError: the method has no such value.
        """
        if (name := self.method.knob) != STEPS:
            if value < 0:
                raise LikenessError(f"{self}: {name} cannot be {value:g}: it is at least 0, the base model")
            return self.with_arguments(**{name: value})
        step, kept = round(value * self._steps), self.adapter_steps()
        if step not in kept:
            shares = ", ".join(f"{one / self._steps:.3g}" for one in kept) or "none"
            raise LikenessError(
                f"{self} has no adapter of {value:g} of its {self._steps} steps, it kept those of {shares}: train it "
                "with --keep_adapters -1, and checkpoints at these steps"
            )
        return Run(self.folder, step)

    @property
    def _steps(self) -> int:
        steps = self.manifest.get("steps")
        if type(steps) is not int or steps < 1:
            raise LikenessError(f"{self.manifest_file}: steps is {steps!r}, so nobody knows what a share of them is")
        return steps

    @cached_property
    def method(self) -> type[PersonalisationModule]:
        """The method's class: one of this project, or one in a module that the user named with ``--methods``."""
        path = self.class_path
        module_name, _, class_name = path.rpartition(".")
        ours = module_name.split(".")[0] == "lightning_modules"
        found = None
        if ours or is_named(module_name):
            with suppress(ModuleNotFoundError):
                found = getattr(importlib.import_module(module_name), class_name, None)
        if isinstance(found, type) and issubclass(found, PersonalisationModule):
            return found
        wrong = f"{str(self.config_file)!r}: model.class_path {path!r} is not one of this project's methods"
        if module_name and not ours and not is_named(module_name):
            wrong += f"; if it is yours, name its module: --methods {module_name}"
        raise LikenessError(wrong)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the run cost and what it was made with; empty when it wrote none."""
        if not self.manifest_file.exists():
            return {}
        name = repr(str(self.manifest_file))
        try:
            manifest = parse(read_file(self.manifest_file, MAX_BYTES).decode())
        except (OSError, ValueError) as error:
            raise LikenessError(f"{name} is damaged ({type(error).__name__}: {error}): {_MANIFEST_LOST}") from None
        if not isinstance(manifest, dict):
            raise LikenessError(f"{name} is damaged (it holds no object): {_MANIFEST_LOST}")
        return manifest

    def adapter(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What was trained, by name, and what its file says of itself: ``method``, the fingerprint of its ``backbone``,
        and what a method adds. It may be large, so it is read anew each time."""
        return read_adapter(self.adapter_file)

    @cached_property
    def adapter_sha256(self) -> str:
        """SHA-256 over what was trained and what its file says of it: unlike a file's own, equal for equal weights."""
        return adapter_identity(*self.adapter())

    def is_adapter(self, sha256: str) -> bool:
        """Whether the hash is :attr:`adapter_sha256`, or that of the file, by which older results know an adapter."""
        return self.adapter_file.is_file() and sha256 in (self.adapter_sha256, file_sha256(self.adapter_file))

    def load(self, backbone: str | None = None) -> PersonalisationModule:
        """The trained method in evaluation mode; ``backbone`` overrides where the base model lies.

        Raises :class:`LikenessError` also when the adapter belongs to another backbone.
        """
        arguments = {**self.arguments, **({} if backbone is None else {"backbone": backbone})}
        try:
            module = self.method(**arguments)
        except TypeError as error:
            raise LikenessError(f"{str(self.config_file)!r}: model.init_args: {error}") from error
        module.load_adapter(self.adapter_file)
        return module.eval()

    def _part(self, name: str) -> dict[str, Any]:
        part = self.config.get(name)
        if not isinstance(part, dict):
            self._damaged(f"{name} is missing or holds no keys")
        return part

    def _damaged(self, reason: str) -> NoReturn:
        raise LikenessError(f"{str(self.folder)!r} is not a run folder of train.py: config.yaml is damaged ({reason})")
