"""SeFi-IDE: token vectors per denoising stage, with a key and a value each, from one photo (arXiv 2402.00631).

What the paper states: the base model is frozen; the token V* has five pairs (P_i^K, P_i^V), one for each fifth of the
timesteps, that a self-attention module emits; the text encoder runs once with P_i^K, for the keys of every
cross-attention layer, and once with P_i^V, for the values; an attention loss of weight 0.003 pulls each token's
attention to that of the same sentence with the class noun. Optimiser, rate, steps, the loss's layers and reduction
and how the tokens begin are not known: those are our reconstruction.
"""

# It trains on batches of subjects, where the base class speaks of pairs.
# mypy: disable-error-code="override,arg-type"

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from contracts.batch import RequestBatch, SubjectBatch
from contracts.conditioning import Conditioning
from contracts.errors import LikenessError
from contracts.prompts import ANY_PLACEHOLDER, OWN
from contracts.records import Request
from lightning_modules.base import PersonalisationModule
from losses.attention_alignment import attention_alignment_loss
from networks.backbone import Backbone
from networks.keyed_noise import key_seed
from networks.placeholders import PlacedPrompt, encode_placed, place_subjects, single_token
from networks.stage_attention import ComparedConditioning, install_stage_attention
from networks.stage_tokens import FreeVectors, SubjectSlots, TokenEmitter, clip_each
from networks.subject_vectors import SubjectVectors, missing_subjects, read_subject_vectors

CACHED_PROMPTS = 64


class SefiIDE(PersonalisationModule):
    """Stage tokens for one subject or many, optimised together without touching one another.

    ``stages`` is the number of key-value pairs; with ``key_value`` ``shared`` a key is its value, which with one stage
    is textual inversion. ``tokens`` is what is trained: the paper's self-attention ``module`` or ``free`` vectors.
    ``tokens_per_subject`` is the number of places that a subject takes in a prompt: one in the paper, more are ours.
    ``attention_weight`` scales the attention loss, read in the layers whose query grid has ``attention_side`` cells a
    side; 0 leaves it out. ``scale`` leads from the class noun's embedding (0, the base model) to the learnt one (1).
    """

    enrols = True

    def __init__(
        self,
        backbone: str | Backbone,
        revision: str | None = None,
        stages: int = 5,
        key_value: Literal["split", "shared"] = "split",
        tokens: Literal["module", "free"] = "module",
        tokens_per_subject: int = 1,
        attention_weight: float = 0.003,
        attention_side: int = 32,
        scale: float = 1.0,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(backbone, revision, learning_rate, weight_decay, warmup_steps)
        if stages < 1:
            raise LikenessError(f"model.stages is {stages}, it must be at least 1")
        if tokens_per_subject < 1:
            raise LikenessError(f"model.tokens_per_subject is {tokens_per_subject}, it must be at least 1")
        self.stages, self.sides = stages, 2 if key_value == "split" else 1
        self.attention_weight, self.attention_side, self.scale = attention_weight, attention_side, scale
        self.width = self.backbone.unet.config.cross_attention_dim
        self.shape = (stages, self.sides, tokens_per_subject, self.width)
        count = stages * self.sides * tokens_per_subject
        self._make = partial(TokenEmitter if tokens == "module" else FreeVectors, self.width, count)
        self.vectors = SubjectVectors({}, self.shape)
        self.slots = SubjectSlots(self._make, 0, self.width)
        self._wave: tuple[str, ...] = ()
        self._since: float | None = None
        self._encoded: OrderedDict[tuple, tuple[Tensor, Tensor]] = OrderedDict()
        install_stage_attention(self.backbone.unet)

    # --- enrolment -------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Make room for the subjects of the run."""
        super().setup(stage)
        if stage != "fit":
            return
        enrolment = self.trainer.datamodule.enrolment  # type: ignore[attr-defined]
        if self.trainer.accumulate_grad_batches != 1:
            raise LikenessError("trainer.accumulate_grad_batches must be 1: a batch is one step of every subject")
        if self.trainer.num_sanity_val_steps:
            raise LikenessError("trainer.num_sanity_val_steps must be 0: before the first step nobody is enrolled")
        algorithm = self.trainer.gradient_clip_algorithm
        if algorithm is not None and algorithm != "norm":
            raise LikenessError(
                f"trainer.gradient_clip_algorithm is {algorithm.value!r}: gradients are clipped by each subject's "
                "norm, take it away"
            )
        self._check_length(enrolment.settings.steps, len(enrolment.waves))
        self._steps = enrolment.settings.steps
        nouns = {subject: photo.subject_class for subject, photo in enrolment.references.items()}
        self.prepare(nouns, max(map(len, enrolment.waves)), enrolment.seed)
        self._check_prompts({subject: enrolment.prompts(photo) for subject, photo in enrolment.references.items()})
        self._check_validation(self.trainer.datamodule.validation_requests(), enrolment.waves[0])  # type: ignore[attr-defined]

    def prepare(self, nouns: Mapping[str, str], at_once: int, seed: int) -> None:
        """Make room for subjects, given as class noun by name, and for the optimisation of some ``at_once``."""
        self.enlist(nouns)
        self.slots, self._seed = SubjectSlots(self._make, at_once, self.width), seed

    def enlist(self, nouns: Mapping[str, str]) -> None:
        """Make room for subjects, given as class noun by name; those that are known keep their vectors.

        Raises :class:`LikenessError` when a class noun is more than one token.
        """
        for noun in dict.fromkeys(nouns.values()):
            single_token(self.backbone.tokenizer, noun)
        before, self.vectors = self.vectors, SubjectVectors(nouns, self.shape)
        self._encoded.clear()
        for name in set(nouns) & set(before.known):
            self.vectors.put([name], before[name][None])

    def _check_length(self, steps: int, waves: int) -> None:
        """A run that ends before the last wave begins would leave subjects out without a word, and there is nothing to
        train on behind the last one."""
        trainer, length = self.trainer, steps * waves
        if trainer.limit_train_batches != 1.0:
            raise LikenessError(
                f"trainer.limit_train_batches is {trainer.limit_train_batches}: take it away, and set "
                "data.enrolment.steps, which is per subject"
            )
        if 0 <= trainer.max_steps <= length - steps:
            raise LikenessError(
                f"trainer.max_steps {trainer.max_steps} ends before the last of {waves} waves of {steps} steps: "
                "take it away (-1), or raise data.enrolment.at_once"
            )
        if trainer.max_steps > length:
            raise LikenessError(
                f"trainer.max_steps {trainer.max_steps} is more than the {length} steps of the enrolment ({waves} "
                f"waves of data.enrolment.steps {steps}): take it away (-1), or raise data.enrolment.steps"
            )
        if trainer.max_steps < 0 and trainer.max_epochs != 1:
            raise LikenessError(
                f"trainer.max_epochs is {trainer.max_epochs}, it must be 1: an epoch holds every step of every subject "
                "(data.enrolment.steps)"
            )

    def _check_prompts(self, prompts: Mapping[str, Sequence[str]]) -> None:
        """Raise :class:`LikenessError` naming the first subject with a prompt that has no place for it: in a later wave
        it would end the run with nothing saved of the subjects before."""
        for subject, own in prompts.items():
            for prompt in own:
                try:
                    self.place(prompt, {OWN: self.vectors.nouns[subject]})
                except LikenessError as error:
                    raise LikenessError(
                        f"subject {subject} cannot be enrolled: {error}; change data.enrolment.prompts (null is the "
                        "photo's caption), or leave the subject out with data.subjects"
                    ) from None

    def _check_validation(self, requests: Sequence[Request], first: Sequence[str]) -> None:
        """Raise :class:`LikenessError` for a prompt that could not be drawn when the subjects of the ``first`` wave
        alone are known: it would end the run in its middle."""
        known = {name: self.vectors.nouns[name] for name in first}
        for request in requests:
            for name in ANY_PLACEHOLDER.findall(request.prompt):
                if name == request.subject:
                    raise LikenessError(
                        f"data.validation_prompts: {request.prompt!r} is drawn for {name} too, who would be in it twice"
                    )
                if name not in (OWN, *first):
                    raise LikenessError(
                        f"data.validation_prompts: in {request.prompt!r} <{name}> is nobody who is enrolled in the "
                        f"first wave ({', '.join(first)})"
                    )
            try:
                self.place(request.prompt, {OWN: known[request.subject], **known})
            except LikenessError as error:
                raise LikenessError(f"data.validation_prompts: {error}") from None

    def begin_wave(self, wave: tuple[str, ...]) -> None:
        """Fill the slots with modules that emit each subject's starting vectors: the class noun's, or what is known of
        the subject. Weights are keyed by subject, so company is no matter."""
        for slot, name in enumerate(wave):
            initial = self.noun_embedding(self.vectors.nouns[name])
            with torch.random.fork_rng(devices=[]):
                torch.random.default_generator.manual_seed(key_seed("tokens", self._seed, name))
                module = self._make()
            start = self.vectors[name] if name in self.vectors.known else initial.expand(self.shape)
            module.start_at(start.flatten(0, -2).cpu())
            self.slots.fill(slot, module, initial)
        self._wave = wave

    def on_train_batch_start(self, batch: SubjectBatch, batch_idx: int) -> None:
        if self._since is None:
            self._since = time.monotonic()
        if batch.step == 0:
            self.begin_wave(batch.wave)
            self.optimizers().optimizer.state.clear()  # type: ignore[union-attr]
        self._wave, self._last = batch.wave, batch.step == self._steps - 1

    def optimizer_step(self, *arguments: Any, **more: Any) -> None:
        """Lightning's step; after a wave's last one its vectors and the time it took are noted."""
        super().optimizer_step(*arguments, **more)
        if self._last:
            self.harvest()
            # Waves follow the order of the subjects. Here and not at the batch's end, where the bar has been drawn.
            finished = 1 + list(self.vectors.nouns).index(self._wave[-1])
            self.log("enrolled", float(finished), prog_bar=True, rank_zero_only=True)
            self._note_time()
            self._since = None

    @torch.no_grad()
    def harvest(self) -> None:
        """Take the vectors of the wave as they are now."""
        if self._wave:
            found = self.slots(torch.arange(len(self._wave), device=self.slots.initial.device))
            self.vectors.put(self._wave, found.unflatten(1, self.shape[:-1]))
            self._encoded.clear()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Makes room for what a checkpoint holds: after forked processes the parent takes over what they trained."""
        subjects, initial = state_dict.get("vectors._extra_state"), state_dict.get("slots.initial")
        if subjects is not None and subjects["nouns"] != self.vectors.nouns:
            self.enlist(subjects["nouns"])
        if initial is not None and len(initial) != len(self.slots):
            self.slots = SubjectSlots(self._make, len(initial), self.width)
        self._encoded.clear()
        return super().load_state_dict(state_dict, strict, assign)

    def on_validation_start(self) -> None:
        self._note_time()
        self.harvest()

    def on_validation_end(self) -> None:
        if self._since is not None:
            self._since = time.monotonic()

    def on_train_end(self) -> None:
        self._note_time()
        self.harvest()

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """The checkpoint knows the seconds until now: a run that goes on from it counts the rest."""
        self._note_time()
        checkpoint["state_dict"]["vectors._extra_state"] = self.vectors.get_extra_state()
        super().on_save_checkpoint(checkpoint)

    def _note_time(self) -> None:
        """Add what has passed since the last note to the wave that is under way, the device's queue worked off."""
        if self._since is None:
            return
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        now = time.monotonic()
        self.vectors.add_seconds(self._wave, now - self._since)
        self._since = now

    def adapter(self) -> nn.ModuleDict:
        """The vectors of every subject that has some: ``stages`` x 2 x tokens x width numbers each."""
        return nn.ModuleDict({"subjects": self.vectors.parts()})

    def adapter_metadata(self) -> dict[str, str]:
        return self.vectors.metadata()

    def load_adapter(self, path: Path) -> None:
        """Take over the subjects of a file; raises :class:`LikenessError` naming what does not fit."""
        self.vectors = read_subject_vectors(path, type(self).__name__, self.backbone.fingerprint, self.shape)
        self._encoded.clear()

    def run_facts(self) -> dict[str, Any]:
        """``enrolment`` has each subject's wave: its seconds from the first step to the last (without validation) and
        how many subjects shared it. ``enrol_seconds`` is a subject's share of its wave, on average."""
        waves = self.vectors.waves
        shares = [wave["seconds"] / wave["at_once"] for wave in waves.values()]
        return {
            "subjects": len(self.vectors.known),
            "subjects_at_once": len(self.slots),
            "enrol_seconds": round(sum(shares) / max(1, len(shares)), 2),
            "enrolment": {n: {**wave, "seconds": round(wave["seconds"], 2)} for n, wave in waves.items()},
            "trainable_parameters": sum(p[0].numel() for p in self.slots.stacked.values()),
        }

    # --- optimisation ----------------------------------------------------------------------------------------

    def parameter_groups(self) -> list[dict]:
        return [{"params": list(self.slots.stacked.values())}]

    def schedule_length(self) -> int:
        """Every wave has a schedule of its own."""
        return self._steps

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Per subject: a norm over all of them would let one subject's gradient shrink another's."""
        if gradient_clip_val:
            clip_each(list(self.slots.stacked.values()), gradient_clip_val)

    def training_step(self, batch: SubjectBatch, batch_idx: int) -> Tensor:
        """Every subject's own loss, summed: neither the number of subjects nor that of processes scales a gradient."""
        if not batch.subjects:  # nothing to do for this process, but the others wait for its gradients
            return torch.stack([p.sum() for p in self.slots.stacked.values()]).sum() * 0.0
        return super().training_step(batch, batch_idx) * (len(batch.subjects) * self.trainer.world_size)

    def train_conditioning(self, batch: SubjectBatch) -> Conditioning:
        """Keys and values of each row's own stage at its timestep."""
        slots = torch.tensor([batch.wave.index(name) for name in batch.subjects], device=batch.timestep.device)
        vectors = self.slots(slots).unflatten(1, self.shape[:-1])
        stage = (batch.timestep * self.stages).div(1000, rounding_mode="floor")
        pair = vectors[torch.arange(len(stage), device=stage.device), stage]
        ids, positions = self._places(batch)
        states = [
            encode_placed(self.backbone.text_encoder, ids, positions, pair[:, side]) for side in range(self.sides)
        ]
        keys, values = states[0][:, None], states[-1][:, None]
        if not self.attention_weight:
            return Conditioning(keys, values)
        with torch.no_grad():
            reference = self.backbone.text_encoder(ids).last_hidden_state
        return ComparedConditioning(text_keys=keys, text_values=values, reference=reference, side=self.attention_side)

    def loss_terms(self, batch: SubjectBatch) -> dict[str, Tensor]:
        """The denoising error, and the weighted attention loss unless its weight is 0."""
        conditioning = self.train_conditioning(batch)
        terms = {"diffusion": self.denoising_error(batch, conditioning).mean()}
        if isinstance(conditioning, ComparedConditioning):
            if not conditioning.maps:
                raise LikenessError(
                    f"model.attention_side {self.attention_side}: no cross-attention layer has such a grid; take the "
                    f"latents' side {self.backbone.latent_shape[1]} or a half, a quarter ... of it"
                )
            terms["attention"] = self.attention_weight * attention_alignment_loss(conditioning.maps).mean()
        return terms

    def _places(self, batch: SubjectBatch) -> tuple[Tensor, Tensor]:
        """Tokens (B, L) with the class nouns in them and positions (B, tokens) of the subjects' tokens."""
        placed = [
            self.place(prompt, {OWN: self.vectors.nouns[name]})
            for prompt, name in zip(batch.prompts, batch.subjects, strict=True)
        ]
        device = batch.timestep.device
        positions = torch.tensor([p.every_position for p in placed], device=device)
        return torch.stack([p.ids for p in placed]).to(device), positions

    def place(self, prompt: str, nouns: Mapping[str, str]) -> PlacedPrompt:
        """``prompt`` as tokens, with as many places for each subject as it has here."""
        return place_subjects(self.backbone.tokenizer, prompt, nouns, self.shape[2])

    # --- drawing ---------------------------------------------------------------------------------------------

    def noun_embedding(self, noun: str) -> Tensor:
        """The token embedding (D,) of a class noun."""
        return self.backbone.text_encoder.get_input_embeddings().weight[single_token(self.backbone.tokenizer, noun)]

    @torch.no_grad()
    def encode_prompt(self, prompt: str, subject: str) -> tuple[Tensor, Tensor]:
        """Text states for keys and for values, each (stages, L, D), of a prompt with ``<subject>`` in it.

        ``<ID>`` stands for a further subject of the run; each has its own vectors at every stage. The text encoder runs
        once for the keys and once for the values of each stage, and not again for the same prompt.
        """
        wanted = (prompt, subject, self.scale)
        if wanted not in self._encoded:
            names = {name: subject if name == OWN else name for name in ANY_PLACEHOLDER.findall(prompt)}
            if unknown := [name for name in names.values() if name not in self.vectors.known]:
                raise LikenessError(missing_subjects(unknown, self.vectors.known))
            if len(set(names.values())) < len(names):
                raise LikenessError(f"the prompt {prompt!r} has two placeholders for {subject}: one is allowed")
            nouns = {name: self.vectors.nouns[known] for name, known in ({OWN: subject} | names).items()}
            placed = self.place(prompt, nouns)
            vectors = torch.cat([self.scaled(names[name]) for name in placed.positions], dim=2)
            device = vectors.device
            ids = placed.ids.to(device).expand(self.stages * self.sides, -1)
            positions = torch.tensor(placed.every_position, device=device).expand(len(ids), -1)
            states = encode_placed(self.backbone.text_encoder, ids, positions, vectors.flatten(0, 1))
            sides = states.unflatten(0, (self.stages, self.sides))
            self._encoded[wanted] = sides[:, 0], sides[:, -1]
            if len(self._encoded) > CACHED_PROMPTS:
                self._encoded.popitem(last=False)
        return self._encoded[wanted]

    def scaled(self, name: str) -> Tensor:
        """Vectors (stages, sides, tokens, D) of a subject, ``scale`` of the way from its class noun."""
        learnt, noun = self.vectors[name], self.noun_embedding(self.vectors.nouns[name])
        return noun + self.scale * (learnt - noun)

    def conditioning(self, batch: RequestBatch) -> Conditioning:
        if self.scale == 0:
            return Conditioning.from_text(batch.text_states)
        encoded = [self.encode_prompt(*both) for both in zip(batch.prompts, batch.subjects, strict=True)]
        keys, values = (torch.stack(states) for states in zip(*encoded, strict=True))
        return Conditioning(keys, values)

    def null_conditioning(self, batch: RequestBatch) -> Conditioning:
        """The plain empty prompt, for keys and values of every stage."""
        stages = 1 if self.scale == 0 else self.stages
        empty = self.backbone.encode_text([""]).expand(len(batch.request_ids), stages, -1, -1)
        return Conditioning(empty, empty)
