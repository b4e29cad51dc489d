"""The card of every column: what is measured, by which networks, and how. No network is loaded to write them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from contracts.errors import LikenessError
from contracts.prompts import further_subjects
from contracts.settings import EvaluationSettings, JudgeSettings
from leaderboard.plan.card_networks import CardNetwork, backbone_network, clip_network, faces_network, network_card
from leaderboard.plan.prompts import read_prompts
from metrics.card import MetricCard
from networks.face_analysis import FacePack
from networks.fingerprints import file_fingerprint

KID_IMAGES = 1_000
"""KID takes so many images at most, spread evenly over the plan: its cost grows with their square."""

_ANGLE = "arccos of the cosine"
_FOREGROUND = "person region from the face's box, the rest grey"


def list_cards(judges: JudgeSettings, samples: int, images: int) -> tuple[MetricCard, ...]:
    """The cards of all measured columns, in the order of the table.

    Args:
        samples: Images per subject and prompt.
        images: Images per entry.

    Raises:
        LikenessError: a network of ``judges`` is not there.
    """
    face, clip = faces_network(judges.faces), clip_network(judges.clip)
    cards = [*_identity_cards(face), *_text_cards(clip), *_image_cards("clip_i", "CLIP-I", clip)]
    if judges.second_faces:
        cards.insert(3, _second_card(face, FacePack(judges.second_faces).fingerprint))
    if judges.image_backbone:
        backbone = backbone_network(judges.image_backbone)
        cards += _image_cards("image_similarity", "image similarity", backbone)
    cards += _diversity_cards(clip, samples)
    if judges.lpips:
        cards.append(_lpips_card(judges.lpips))
    cards.append(_kid_card(clip, min(images, KID_IMAGES)))
    return (*cards, *_leakage_cards(face, clip))


def planned_cards(settings: EvaluationSettings) -> list[MetricCard]:
    """The cards of every column that an evaluation with these settings would have. No data is looked at: where
    ``protocol.subjects`` is a number, the data may have fewer."""
    wanted = settings.protocol
    subjects = wanted.subjects if isinstance(wanted.subjects, int) else len(set(wanted.subjects))
    drawn_for = [subjects - len(further_subjects(prompt.text)) for prompt in read_prompts(wanted.prompts)]
    images = sum(drawn_for) * wanted.samples
    measured = list_cards(settings.judges, wanted.samples, min(images, settings.limit or images))
    return [*derived_cards({card.name: card for card in measured}), *measured]


def versions(cards: tuple[MetricCard, ...]) -> dict[str, str]:
    """Version string by column, as protocols and records hold it."""
    return {card.name: card.version for card in cards}


def derived_cards(cards: Mapping[str, MetricCard]) -> tuple[MetricCard, ...]:
    """The cards of the columns that compare an entry with floor and ceiling."""
    base, text = cards["identity_misses_zero"], cards["clip_t"]

    def derive(name: str, title: str, formula: str, card: MetricCard, about: str) -> MetricCard:
        version = f"{name}={formula}|{card.version}"
        return replace(
            card,
            name=name,
            title=title,
            group="summary",
            version=version,
            low=None,
            high=None,
            source="Likeness",
            about=about,
            headline=True,
        )

    recovered = "identity with misses as 0, from the base model without the subject (0) to another real photo (1)"
    return (
        derive("identity_recovered", "identity recovered", "(method-floor)/(ceiling-floor)", base, recovered),
        derive("prompt_kept", "prompt kept", "method/floor", text, "CLIP-T over that of the base model"),
    )


def _identity_cards(face: CardNetwork) -> list[MetricCard]:
    def card(name: str, title: str, version: str, about: str, **more: object) -> MetricCard:
        return network_card(face, name, title, "identity", version, about, **more)  # type: ignore[arg-type]

    photos = "mean cosine of the face drawn to the subject's held-out photos"
    return [
        card("detection_rate", "detection rate", "share", "share of images with a face", bounds=(0, 1), headline=True),
        card(
            "identity_given_detection", "identity, found", "cos-mean-held-out|x1|found-only", f"{photos}, where found"
        ),
        card(
            "identity_misses_zero",
            "identity, misses 0",
            "cos-mean-held-out|x1|miss-0",
            f"{photos}, 0 where no face was found",
            headline=True,
        ),
        card(
            "identity_to_reference",
            "identity to reference",
            "cos|x1|found-only",
            "cosine to the photo that the method saw; far above the held-out one it means copying",
        ),
        card(
            "copy_paste",
            "copy-paste",
            f"(angle(held-out)-angle(reference))/angle(held-out,reference)|mean-over-held-out|{_ANGLE}|found-only",
            "1 is a copy of the reference, 0 as near to it as to other photos, -1 is a held-out photo",
            higher=False,
            source="MultiID-Bench (WithAnyone, arXiv 2510.14975), its angles averaged over several other photos",
        ),
    ]


def _second_card(face: CardNetwork, pack: str) -> MetricCard:
    card = network_card(
        face,
        "identity_second_opinion",
        "identity, second network",
        "identity",
        f"second-{pack[:8]}|same-faces|cos-mean-held-out|x1|found-only",
        "as identity where found, on the same faces, by another network",
    )
    return replace(card, backbone="recogniser of a second insightface pack", backbone_hash=pack)


def _text_cards(clip: CardNetwork) -> list[MetricCard]:
    clip_score = "CLIPScore, arXiv 2104.08718, without its factor and clamp"
    return [
        network_card(
            clip,
            "clip_t",
            "CLIP-T",
            "text",
            "cos|x1|noun|trunc-eos",
            "cosine of image and prompt, with the class noun for the subject",
            source=clip_score,
            headline=True,
        ),
        network_card(
            clip,
            "edit_margin",
            "edit margin",
            "text",
            "cos(prompt)-cos(a photo of a noun)|x1|trunc-eos",
            "how much better the image fits its prompt than a prompt without the edit",
            bounds=(-2.0, 2.0),
        ),
    ]


def _image_cards(name: str, title: str, network: CardNetwork) -> list[MetricCard]:
    source = "DreamBooth, arXiv 2208.12242, with held-out photos in place of the method's own"
    return [
        network_card(
            network,
            name,
            title,
            "image",
            "cos-mean-held-out|x1",
            "mean cosine of whole image and held-out photos",
            source=source,
        ),
        network_card(
            network,
            f"{name}_foreground",
            f"{title}, person",
            "image",
            f"cos-mean-held-out|x1|{_FOREGROUND}|found-only",
            "the same of the person alone, background greyed out",
            source=source,
        ),
    ]


def _diversity_cards(clip: CardNetwork, samples: int) -> list[MetricCard]:
    return [
        network_card(
            clip,
            "diversity",
            "diversity",
            "diversity",
            "mean-pairwise-cos-distance|per-subject-and-prompt",
            "mean pairwise distance of the samples of one prompt",
            bounds=(0.0, 2.0),
            headline=True,
        ),
        network_card(
            clip,
            "vendi",
            f"Vendi, n = {samples}",
            "diversity",
            f"cosine-kernel|q1|n{samples}|per-subject-and-prompt",
            f"effective number of distinct images among the {samples} of one prompt",
            bounds=(1.0, float(samples)),
            source="Vendi score, arXiv 2210.02410",
        ),
    ]


def _lpips_card(weights: str) -> MetricCard:
    if not Path(weights).is_file():
        raise LikenessError(f"judges.lpips: no file {weights}")
    hash = file_fingerprint(Path(weights))
    network = CardNetwork("LPIPS", hash, "-1..1, no resize, fp32", f"lpips-{hash[:8]}|fp32")
    return network_card(
        network,
        "lpips_diversity",
        "LPIPS diversity",
        "diversity",
        "mean-pairwise|per-subject-and-prompt",
        "mean pairwise LPIPS distance of the samples of one prompt",
        bounds=(0.0, None),
        source="LPIPS, arXiv 1801.03924",
    )


def _kid_card(clip: CardNetwork, images: int) -> MetricCard:
    return network_card(
        clip,
        "kid",
        f"KID, n = {images}",
        "distribution",
        f"poly3|unbiased|n{images}|held-out-photos",
        f"kernel distance of {images} images to the held-out photos; no interval, as a resample repeats images",
        bounds=(None, None),
        higher=False,
        source="KID, arXiv 1801.01401, on CLIP features",
    )


def _leakage_cards(face: CardNetwork, clip: CardNetwork) -> list[MetricCard]:
    hidden = "person region grey|found-only"
    return [
        network_card(
            clip,
            "background_leakage",
            "background leakage",
            "leakage",
            f"cos(own-reference)-cos(other-references)|{hidden}",
            "how much nearer the background is to the reference's than to those of other subjects' references",
            bounds=(-2.0, 2.0),
            higher=False,
        ),
        network_card(
            clip,
            "background_copied",
            "background copied",
            "leakage",
            f"nearest-class-mean|{hidden}|not-asked-for",
            "share of images before the background of the reference, of prompts that do not ask for it",
            bounds=(0.0, 1.0),
            higher=False,
        ),
        network_card(
            face,
            "pose_leakage",
            "pose leakage",
            "leakage",
            "1-angle/45|ridge-on-landmarks|known-reference-pose|found-only",
            "1 is the head pose of the reference, 0 is 45 degrees or more away from it",
            bounds=(0.0, 1.0),
            higher=False,
        ),
    ]
