"""SpotDiff: spot pose and background with experts, keep the subject orthogonal to them (arXiv 2510.07340).

The paper's body could not be read: what is built here is SpotDiff-R, a labelled reconstruction from its abstract.
Stage 1 trains the two experts on grouped batches; stage 2 freezes them and trains subject head, alignment and
decoupled attention on cross-view pairs.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from contracts.batch import FactorBatch, PairBatch, RequestBatch
from contracts.conditioning import Conditioning
from contracts.errors import LikenessError
from lightning_modules.base import PersonalisationModule
from losses.contrastive import supervised_info_nce
from losses.diffusion import subject_weighted_loss
from losses.orthogonality import orthogonality_loss, view_invariance_loss
from networks.backbone import Backbone
from networks.decoupled_attention import install_decoupled_attention
from networks.erasure import Erasure, principal_part
from networks.spotdiff_heads import Alignment, Expert, FeatureStandardiser, SubjectHead, remove_directions


class SpotDiff(PersonalisationModule[PairBatch]):
    """Subject tokens from a CLIP image feature that is kept free of pose and background.

    ``subject_weight`` is how much more the subject's cells count in the denoising loss (ours; 0 is the plain mean).
    ``orthogonality`` is how: ``erasure`` takes off the image feature, before the subject head, the subspaces that the
    experts' features span over the training photos (``directions`` of each), so that its covariance with them is 0;
    ``loss`` adds L_orth with ``orthogonality_weight``, ``projection`` removes the experts' directions from the subject
    feature of each sample, ``none`` does nothing. ``pose_expert`` and
    ``background_expert`` switch each expert off, for the paper's ablation. ``scale`` is the strength of the identity
    branch when images are generated; 0 is the base model.

    ``control`` is the paper's controllable side, as we read it: the share of training samples that are given what
    ``erasure`` takes off the target's feature for the pose, and independently for the background. The erased subspaces
    then have a meaning for the UNet, and ``keep_pose`` and ``keep_background``, 0 to 1, give back so much of the
    reference's own when images are generated.
    """

    needs = ("clip",)

    def __init__(
        self,
        backbone: str | Backbone,
        image_width: int,
        revision: str | None = None,
        orthogonality: Literal["erasure", "loss", "projection", "none"] = "loss",
        directions: int = 12,
        control: float = 0.0,
        keep_pose: float = 0.0,
        keep_background: float = 0.0,
        orthogonality_weight: float = 0.1,
        invariance_weight: float = 0.1,
        subject_weight: float = 0.0,
        pose_expert: bool = True,
        background_expert: bool = True,
        tokens: int = 4,
        hidden: int = 1024,
        scale: float = 1.0,
        expert_learning_rate: float = 1e-3,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__(backbone, revision, learning_rate, weight_decay, warmup_steps)
        self.orthogonality, self.orthogonality_weight = orthogonality, orthogonality_weight
        self.subject_weight = subject_weight
        self.invariance_weight, self.scale, self.expert_learning_rate = invariance_weight, scale, expert_learning_rate
        self.standardise = FeatureStandardiser(image_width)
        self.experts = nn.ModuleDict()
        if pose_expert:
            self.experts["pose"] = Expert(image_width, hidden)
        if background_expert:
            self.experts["background"] = Expert(image_width, hidden)
        self.erasure = Erasure(image_width, len(self.experts)) if orthogonality == "erasure" and self.experts else None
        self.control, self.keep = control, {"pose": keep_pose, "background": keep_background}
        self._check_control()
        self.directions = directions
        self.subject = SubjectHead(image_width, hidden)
        self.align = Alignment(image_width, tokens, self.backbone.unet.config.cross_attention_dim)
        self.attention = install_decoupled_attention(self.backbone.unet)

    def _check_control(self) -> None:
        shares = {"control": self.control} | {f"keep_{name}": share for name, share in self.keep.items()}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise LikenessError(f"model.{name} is {share}, it is a share: give 0 to 1")
        for name, share in self.keep.items():
            if share and not (self.control and self.erasure is not None and name in self.experts):
                raise LikenessError(
                    f"model.keep_{name}: this training has not learnt to draw a given {name}: train with model.control "
                    "above 0, orthogonality erasure and both experts, or leave it out"
                )

    def check_features(self, shape_of: Callable[[str], tuple[int, ...]]) -> None:
        width = shape_of("clip")[0]
        if width != len(self.standardise.mean):
            raise LikenessError(
                f"model.image_width is {len(self.standardise.mean)}, the image encoder's features have {width}"
            )

    def on_fit_start(self) -> None:
        """Centre the features on the training set's mean (on resuming, the checkpoint's mean replaces it)."""
        if not self.standardise.mean.any():
            self.standardise.mean.copy_(self.trainer.datamodule.feature_mean("clip"))  # type: ignore[attr-defined]

    def parameter_groups(self) -> list[dict]:
        rest = [self.subject, self.align, self.attention]
        return [
            {"params": [p for part in rest for p in part.parameters()]},
            {"params": list(self.experts.parameters()), "lr": self.expert_learning_rate},
        ]

    def adapter(self) -> nn.ModuleDict:
        parts: dict[str, nn.Module | None]
        parts = {"standardise": self.standardise, "experts": self.experts, "erasure": self.erasure}
        parts |= {"subject": self.subject, "align": self.align, "attention": self.attention}
        return nn.ModuleDict({name: part for name, part in parts.items() if part is not None})

    # --- features --------------------------------------------------------------------------------------------

    def factor_features(self, f: Tensor) -> dict[str, Tensor]:
        """z_p and z_b by expert name, each (B, D), from the standardised feature f (B, D)."""
        return {name: expert(f) for name, expert in self.experts.items()}

    def subject_feature(self, f: Tensor, given: Tensor | None = None) -> Tensor:
        """z_s (B, D), from f (B, D), without what ``erasure`` or ``projection`` take off.

        ``given`` (B, D) is what of pose and background is added before the subject head, as :meth:`nuisances` has it.
        """
        if self.erasure is not None:
            f = self.erasure(f) if given is None else self.erasure(f) + given
        z = self.subject(f)
        if self.orthogonality == "projection":
            z = remove_directions(z, [d.detach() for d in self.factor_features(f).values()])
        return z

    def nuisances(self, f: Tensor, shares: Mapping[str, Tensor | float]) -> Tensor | None:
        """(B, D): of what the erasure takes off f (B, D) for each expert, the share (B,) by the expert's name; ``None``
        where nothing was erased or all shares are the number 0."""
        chosen = [shares[name] for name in self.experts]
        if self.erasure is None or not any(isinstance(share, Tensor) or share for share in chosen):
            return None
        columns = [torch.as_tensor(share, dtype=torch.float32, device=f.device).expand(len(f)) for share in chosen]
        return self.erasure.given(f, torch.stack(columns, dim=1))

    def identity_tokens(self, clip: Tensor, given: Tensor | None = None) -> Tensor:
        """Pooled CLIP features (B, D) to identity tokens (B, N, token width); ``given`` as in
        :meth:`subject_feature`."""
        return self.align(self.subject_feature(self.standardise(clip), given))

    def null_tokens(self, clip: Tensor) -> Tensor:
        """Tokens of nobody: the alignment of a zero feature, for dropped identity and for guidance."""
        return self.align(torch.zeros_like(clip))

    # --- conditioning ----------------------------------------------------------------------------------------

    def train_conditioning(self, batch: PairBatch) -> Conditioning:
        clip = batch.reference["clip"]
        given = None
        if self.control:
            assert batch.chance is not None
            told = (batch.chance < self.control).float()
            target = self.standardise(batch.second_view["clip"])
            given = self.nuisances(target, {"pose": told[:, 0], "background": told[:, 1]})
        subject = self.identity_tokens(clip, given)
        tokens = torch.where(batch.drop_identity[:, None, None], self.null_tokens(clip), subject)
        return Conditioning.from_text(batch.text_states, identity=tokens)

    def conditioning(self, batch: RequestBatch) -> Conditioning:
        clip = batch.reference["clip"]
        given = self.nuisances(self.standardise(clip), self.keep)
        return Conditioning.from_text(batch.text_states, identity=self.identity_tokens(clip, given), scale=self.scale)

    def null_conditioning(self, batch: RequestBatch) -> Conditioning:
        empty = self.backbone.encode_text([""]).expand(len(batch.request_ids))
        return Conditioning.from_text(empty, identity=self.null_tokens(batch.reference["clip"]), scale=self.scale)

    # --- losses ----------------------------------------------------------------------------------------------

    def expert_terms(self, batch: FactorBatch) -> dict[str, Tensor]:
        """Stage 1: InfoNCE per expert (temperature 0.07) and 0.1 x mean |cos(z_p, z_b)|^2."""
        z = self.factor_features(self.standardise(batch.features["clip"]))
        labels = {"pose": batch.pose, "background": batch.background}
        terms = {f"expert_{name}": supervised_info_nce(feature, labels[name]) for name, feature in z.items()}
        if len(z) == 2:
            terms["expert_cross"] = 0.1 * torch.cosine_similarity(z["pose"], z["background"], dim=-1).pow(2).mean()
        return terms

    def on_train_batch_start(self, batch: PairBatch | FactorBatch, batch_idx: int) -> None:
        """Fit the erasure as stage 2 begins: the experts are ready by then, and learn no more."""
        if isinstance(batch, PairBatch) and self.erasure is not None and not self.erasure.fitted:
            clip = self.trainer.datamodule.training_features("clip")  # type: ignore[attr-defined]
            self.fit_erasure(clip.to(self.device))

    @torch.no_grad()
    def fit_erasure(self, clip: Tensor) -> None:
        """Let the erasure take off the principal parts of the experts' features, of pooled CLIP features (N, D)."""
        if self.erasure is not None:
            f = self.standardise(clip)
            found = [principal_part(z, self.directions) for z in self.factor_features(f).values()]
            self.erasure.fit(f, found)

    def loss_terms(self, batch: PairBatch | FactorBatch) -> dict[str, Tensor]:
        """Stage 1 on a :class:`FactorBatch`, stage 2 on a :class:`PairBatch`."""
        if isinstance(batch, FactorBatch):
            return self.expert_terms(batch)
        noisy, target = self.noisy_and_target(batch)
        prediction = self.denoise(noisy, batch.timestep, self.train_conditioning(batch))
        terms = {"diffusion": subject_weighted_loss(prediction, target, batch.mask, self.subject_weight).mean()}
        f = self.standardise(batch.reference["clip"])
        z = self.subject_feature(f)
        if self.orthogonality == "loss":
            nuisances = list(self.factor_features(f).values())
            terms["orthogonality"] = self.orthogonality_weight * orthogonality_loss(z, nuisances).mean()
        other = self.subject_feature(self.standardise(batch.second_view["clip"]))
        terms["invariance"] = self.invariance_weight * view_invariance_loss(z, other).mean()
        return terms
