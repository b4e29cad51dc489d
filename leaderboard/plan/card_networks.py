"""The networks behind the columns, as their cards name them. None is loaded, only its files are read."""

from dataclasses import dataclass

from metrics.card import MetricCard
from networks.face_analysis import DETECTION_SIDE, SCORE_THRESHOLD, FacePack
from networks.fingerprints import folder_fingerprint, resolve_source


@dataclass(frozen=True)
class CardNetwork:
    """What a card says about the network behind it."""

    kind: str
    hash: str
    preprocessing: str
    tag: str


def faces_network(source: str) -> CardNetwork:
    """The face pack in the folder ``source``; raises :class:`LikenessError` when it is not there."""
    steps = f"insightface, detection at {DETECTION_SIDE}, score over {SCORE_THRESHOLD}, no retry, crop 112"
    pack = FacePack(source).fingerprint
    tag = f"faces-{pack[:8]}|det{DETECTION_SIDE}-thr{SCORE_THRESHOLD}|largest"
    return CardNetwork("insightface pack", pack, steps, tag)


def clip_network(source: str) -> CardNetwork:
    """The CLIP in ``source``, a folder or a hub name; raises :class:`LikenessError` when it is not there."""
    hash = folder_fingerprint(resolve_source(source))
    return CardNetwork("CLIP", hash, "the model's own PIL pipeline, fp32", f"clip-{hash[:8]}|pil|fp32")


def backbone_network(source: str) -> CardNetwork:
    """The image backbone in ``source``, such as DINO; raises :class:`LikenessError` when it is not there."""
    hash = folder_fingerprint(resolve_source(source))
    return CardNetwork(
        "image backbone", hash, "the model's own PIL pipeline, fp32, class token", f"image-{hash[:8]}|pil|cls|fp32"
    )


def network_card(
    network: CardNetwork,
    name: str,
    title: str,
    group: str,
    version: str,
    about: str,
    bounds: tuple[float | None, float | None] = (-1.0, 1.0),
    higher: bool = True,
    source: str = "Likeness",
    headline: bool = False,
) -> MetricCard:
    """The card of a column that ``network`` judges; ``version`` says what its tag does not."""
    return MetricCard(
        name=name,
        title=title,
        group=group,
        version=f"{name}@{network.tag}|{version}",
        backbone=network.kind,
        backbone_hash=network.hash,
        preprocessing=network.preprocessing,
        higher_is_better=higher,
        low=bounds[0],
        high=bounds[1],
        source=source,
        about=about,
        headline=headline,
    )
