"""The features by name, and how they are made of what a user gives under ``data.features``."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from contracts.errors import LikenessError
from datamodules.features.base import EncoderContext, Feature

FEATURES = {
    "moments": "base_model.Moments",
    "text": "base_model.TextStates",
    "pooled_text": "base_model.PooledText",
    "sizes": "base_model.PhotoSizes",
    "mask": "base_model.PersonMask",
    "face": "base_model.Head",
    "face_moments": "faces.FaceMoments",
    "wplus": "faces.WPlus",
    "wplus_background": "faces.WPlusBackground",
    "clip": "clip.PooledClip",
    "clip_embeds": "clip_embeds.ClipEmbeds",
    "clip_patches": "clip_patches.ClipPatches",
    "face_embedding": "face_embedding.FaceEmbedding",
}
"""File of this folder and class. A file is imported when its feature is asked for."""

Settings = Mapping[str, Mapping[str, Any]]
"""The settings of each feature's class by the feature's name."""


def make_features(names: Iterable[str], settings: Settings, context: EncoderContext) -> dict[str, Feature]:
    """The features by name; ``settings`` may have those of other features too.

    Raises:
        LikenessError: a feature or a setting is unknown, or a setting is missing.
    """
    made = {}
    for name in names:
        given = settings.get(name) or {}
        made[name] = _checked_class(name, given)(name=name, context=context, **given)
    return made


def check_settings(settings: Settings) -> None:
    """Raise ``LikenessError`` as :func:`make_features`, without making a feature."""
    for name, given in settings.items():
        _checked_class(name, given or {})


def feature_class(name: str) -> type[Feature]:
    """The class of a feature.

    Raises:
        LikenessError: there is no such feature; the message has the nearest name.
    """
    if name not in FEATURES:
        raise LikenessError(f"data.features: unknown feature {name!r}{_hint(name, FEATURES)}")
    file, _, kind = FEATURES[name].partition(".")
    return getattr(import_module(f"datamodules.features.{file}"), kind)


def known_settings(name: str) -> dict[str, bool]:
    """The settings of a feature's class, and whether each must be given."""
    own = [field for field in fields(feature_class(name)) if field.name not in ("name", "context")]
    return {field.name: field.default is MISSING and field.default_factory is MISSING for field in own}


def run_features(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Feature settings of the ``data`` section of a run's ``config.yaml``.

    Older runs name the sources beside the features: ``image_encoder``, ``wplus_encoder`` and ``detector``, which looked
    for faces at 128 pixels.
    """
    given = data.get("features")
    if isinstance(given, Mapping):
        return {name: dict(settings or {}) for name, settings in given.items()}
    found: dict[str, dict[str, Any]] = {}
    if encoder := data.get("image_encoder"):
        found["clip"] = {"encoder": encoder}
    if encoder := data.get("wplus_encoder"):
        found["wplus"] = {"encoder": encoder, "detector": data.get("detector"), "det_size": [128]}
    return found


def _checked_class(name: str, given: Mapping[str, Any]) -> type[Feature]:
    known = known_settings(name)
    if not isinstance(given, Mapping):
        raise LikenessError(f"data.features.{name} is {given!r}, it must map {', '.join(known)} to values")
    for setting in given:
        if setting not in known:
            raise LikenessError(f"data.features.{name} has no setting {setting!r}{_hint(setting, known)}")
    for setting, needed in known.items():
        if needed and setting not in given:
            together = ", ".join(f"{other}: ..." for other in known)
            raise LikenessError(
                f"data.features.{name}.{setting} is missing: give --data.features.{name} {{{together}}}"
            )
    return feature_class(name)


def _hint(word: str, known: Iterable[str]) -> str:
    nearest = get_close_matches(str(word), known, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else f", known are {', '.join(known)}"
