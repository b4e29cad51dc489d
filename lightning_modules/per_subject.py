"""What is the same for every method that is optimised per subject: groups, time, checkpoints, checks of a run."""

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from contracts.batch import SubjectBatch
from contracts.errors import LikenessError
from contracts.prompts import ANY_PLACEHOLDER, OWN
from contracts.records import Request
from lightning_modules.base import PersonalisationModule
from lightning_modules.trainer_checks import check_trainer
from networks.keyed_noise import key_seed
from networks.subject_slots import SubjectSlots, clip_each
from networks.subject_tensors import (
    AdapterLayout,
    Nouns,
    SubjectTensors,
    read_subject_tensors,
    split_by_subject,
    subjects_of,
)


class PerSubjectModule(PersonalisationModule[SubjectBatch]):
    """Base of the methods that optimise tensors for each subject, many subjects at the same time.

    A method says what it trains for one subject (:meth:`subject_module`), where a subject begins
    (:meth:`begin_subject`) and which prompts it takes (:meth:`check_prompt`), besides its loss terms and
    conditionings. Its constructor ends with ``self.prepare({}, 0, seed=0)``.

    Subjects are optimised in groups: a group's subjects in one batch, the groups one after another. ``slots`` holds
    what is optimised now: ``self.slots(self.slots_of(batch))`` is each row's tensors, with gradient. ``subjects`` holds
    what was learnt: ``self.subjects[name]``. What a subject learns depends neither on the other subjects of its group
    nor on the number of processes.
    """

    enrols = True
    trains_in_parts = False
    subjects: SubjectTensors
    slots: SubjectSlots
    seed: int
    """Keys the randomness of every subject, together with its name."""
    _group: tuple[str, ...] = ()
    _ends_group: bool = False
    _measured_until: float | None = None
    _photos: dict[str, list[str]] = {}  # noqa: RUF012 - replaced, never changed
    _slots_of: tuple[object, Tensor] = (None, torch.empty(0))

    # --- what a method answers -------------------------------------------------------------------------------

    def subject_module(self) -> nn.Module:
        """What is trained for one subject: a module without inputs that returns the subject's tensors by name."""
        raise NotImplementedError

    def begin_subject(self, noun: str, known: Mapping[str, Tensor] | None) -> nn.Module:
        """A subject's module before the first step.

        It begins at the class noun, or at the tensors that are ``known`` of the subject already. The global random
        generator is seeded by the subject's name.
        """
        raise NotImplementedError

    @classmethod
    def check_prompt(cls, prompt: str, nouns: Nouns, layout: AdapterLayout, tokenizer: CLIPTokenizer) -> None:
        """Raise :class:`LikenessError` for a prompt that the method cannot take.

        ``nouns`` is the class noun by placeholder, ``layout`` that of the run's adapter.
        """
        raise NotImplementedError

    def on_subjects_changed(self) -> None:
        """Called after ``subjects`` has changed: what was computed from it is out of date."""

    # --- subjects --------------------------------------------------------------------------------------------

    def prepare(self, nouns: Nouns, at_once: int, seed: int) -> None:
        """Make room for subjects, given as class noun by name, and for the optimisation of ``at_once`` of them."""
        self.slots = SubjectSlots(self.subject_module, at_once)
        self.seed = seed
        self.allocate(nouns)

    def allocate(self, nouns: Nouns) -> None:
        """Make room for subjects, given as class noun by name; known ones among them keep their tensors."""
        subjects = SubjectTensors(nouns, self.slots.shapes)
        before = getattr(self, "subjects", subjects)  # the constructor has none yet
        for name in before.known:
            if name in nouns:
                subjects.store([name], {key: value[None] for key, value in before[name].items()})
        self.subjects = subjects
        self.on_subjects_changed()

    def start_group(self, group: tuple[str, ...]) -> None:
        """Fill the slots with the modules of a group's subjects, each as it begins."""
        for slot, name in enumerate(group):
            known = self.subjects[name] if name in self.subjects.known else None
            with torch.random.fork_rng(devices=[]):
                torch.random.default_generator.manual_seed(key_seed("tokens", self.seed, name))
                module = self.begin_subject(self.subjects.nouns[name], known)
            self.slots.fill(slot, module)
        self._group = group

    @torch.no_grad()
    def collect(self) -> None:
        """Store the tensors of the current group's subjects as they are now."""
        if self._group:
            self.subjects.store(self._group, self.slots(torch.arange(len(self._group), device=self.device)))
            self.on_subjects_changed()

    def slots_of(self, batch: SubjectBatch) -> Tensor:
        """The slot (B,) int64 of each row of a batch. They are kept while a group is optimised: a copy to a GPU would
        make the processor wait for it in every step."""
        wanted = (batch.group, batch.subjects, device := batch.timestep.device)
        if self._slots_of[0] != wanted:
            slots = torch.tensor([batch.group.index(name) for name in batch.subjects], device=device)
            self._slots_of = wanted, slots
        return self._slots_of[1]

    # --- optimisation ----------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Make room for the subjects of the run.

        Raises :class:`LikenessError` for trainer settings or prompts that could not be carried through to the end.
        """
        super().setup(stage)
        if stage != "fit":
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        enrolment = data.enrolment
        groups = enrolment.groups
        self._steps = enrolment.settings.steps
        check_trainer(self.trainer, self._steps, len(groups))
        nouns = {subject: photos[0].subject_class for subject, photos in enrolment.photos.items()}
        self._photos = {subject: [photo.sha256 for photo in photos] for subject, photos in enrolment.photos.items()}
        self.prepare(nouns, max(map(len, groups)), enrolment.seed)
        self._check_training(
            {
                subject: [p for photo in photos for p in enrolment.prompts(photo)]
                for subject, photos in enrolment.photos.items()
            }
        )
        self._check_validation(data.validation_requests(), groups[0])

    def parameter_groups(self) -> list[dict]:
        return [{"params": list(self.slots.stacked.values())}]

    def schedule_length(self) -> int:
        """Every group has a schedule of its own."""
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

    def on_train_batch_start(self, batch: SubjectBatch, batch_idx: int) -> None:
        if self._measured_until is None:
            self._measured_until = time.monotonic()
        if batch.step == 0:
            self.start_group(batch.group)
            self.optimizers().optimizer.state.clear()  # type: ignore[union-attr]
        self._group = batch.group
        self._ends_group = batch.step == self._steps - 1

    def training_step(self, batch: SubjectBatch, batch_idx: int) -> Tensor:
        """The sum of the subjects' own losses: neither the number of subjects nor that of processes scales a gradient.

        Loss terms are means over the rows, of which every subject has equally many.
        """
        if not batch.subjects:  # this process has no subject, but the others wait for its gradients
            return torch.stack([p.sum() for p in self.slots.stacked.values()]).sum() * 0.0
        return super().training_step(batch, batch_idx) * (len(set(batch.subjects)) * self.trainer.world_size)

    def optimizer_step(self, *arguments: Any, **more: Any) -> None:
        """Lightning's step. After a group's last one its tensors are stored and its time is noted."""
        super().optimizer_step(*arguments, **more)
        if self._ends_group:
            self.collect()
            # Groups follow the order of the subjects. At the batch's end it would be too late for the progress bar.
            finished = 1 + list(self.subjects.nouns).index(self._group[-1])
            self.log("enrolled", float(finished), prog_bar=True, rank_zero_only=True)
            self._note_time()
            self._measured_until = None

    def on_validation_start(self) -> None:
        self._note_time()
        self.collect()

    def on_validation_end(self) -> None:
        if self._measured_until is not None:
            self._measured_until = time.monotonic()

    def on_train_end(self) -> None:
        self._note_time()
        self.collect()

    def _note_time(self) -> None:
        """Add the time since the last note to the current group's, when the device has finished its work."""
        if self._measured_until is None:
            return
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        now = time.monotonic()
        self.subjects.add_seconds(self._group, now - self._measured_until)
        self._measured_until = now

    # --- files -----------------------------------------------------------------------------------------------

    def adapter(self) -> nn.ModuleDict:
        """The tensors of every known subject."""
        return nn.ModuleDict({"subjects": self.subjects.parts()})

    def adapter_metadata(self) -> dict[str, str]:
        return self.subjects.metadata()

    def save_adapter(self, path: Path) -> bool:
        """In a training also of the subjects that are optimised now, as they are, though they count as enrolled only
        when they are through. Where nobody was begun there is no file."""
        enrolled, self.subjects = self.subjects, deepcopy(self.subjects)
        try:
            if self._trainer is not None:
                self.collect()
            return bool(self.subjects.known) and super().save_adapter(path)
        finally:
            self.subjects = enrolled
            self.on_subjects_changed()

    def load_adapter(self, path: Path) -> None:
        """Take over the subjects of a file, beside those that are known; raises :class:`LikenessError` naming what does
        not fit."""
        found = read_subject_tensors(path, type(self).__name__, self.backbone.fingerprint, self.slots.shapes)
        self.allocate({**self.subjects.nouns, **found.nouns})
        for name in found.known:
            self.subjects.store([name], {key: value[None] for key, value in found[name].items()})
        self.on_subjects_changed()

    def run_facts(self) -> dict[str, Any]:
        """``enrolment`` has the time of each subject's group: ``seconds`` from the first step to the last, without
        validation, and the number of subjects ``at_once``. ``enrol_seconds`` is a subject's share of that, on average.
        ``photos`` has the hashes of the photos that each was learnt from.
        """
        timings = self.subjects.timings
        shares = [timing["seconds"] / timing["at_once"] for timing in timings.values()]
        return {
            "subjects": len(self.subjects.known),
            "subjects_at_once": len(self.slots),
            "enrol_seconds": round(sum(shares) / max(1, len(shares)), 2),
            "enrolment": {n: {**timing, "seconds": round(timing["seconds"], 2)} for n, timing in timings.items()},
            "trainable_parameters": sum(p[0].numel() for p in self.slots.stacked.values()),
            "photos": {name: self._photos[name] for name in self.subjects.known if name in self._photos},
        }

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """The checkpoint knows the seconds until now: a run that goes on from it counts the rest."""
        self._note_time()
        checkpoint["state_dict"]["subjects._extra_state"] = self.subjects.get_extra_state()
        checkpoint["group"] = list(self._group)
        super().on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Takes over whom the slots hold."""
        super().on_load_checkpoint(checkpoint)
        self._group = tuple(checkpoint.get("group", ()))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Makes room for what a checkpoint holds: after forked processes the parent takes over what they trained."""
        stored = state_dict.get("subjects._extra_state")
        if stored is not None and stored["nouns"] != self.subjects.nouns:
            self.allocate(stored["nouns"])
        stacks = [value for name, value in state_dict.items() if name.startswith("slots.stacked.")]
        if stacks and len(stacks[0]) != len(self.slots):
            self.slots = SubjectSlots(self.subject_module, len(stacks[0]))
        self.on_subjects_changed()
        return super().load_state_dict(state_dict, strict, assign)

    # --- checks before the first step ------------------------------------------------------------------------

    @classmethod
    def check_prompts(
        cls,
        requests: Sequence[Request],
        tensors: Mapping[str, Tensor],
        metadata: Mapping[str, str],
        tokenizer: CLIPTokenizer,
    ) -> None:
        """Raise :class:`LikenessError` for the first request that an adapter with these tensors and metadata cannot
        generate. All subjects of the requests must be in the adapter."""
        nouns = subjects_of(metadata) or {}
        first = next(iter(split_by_subject(tensors).values()))
        layout = AdapterLayout({name: tuple(value.shape) for name, value in first.items()}, metadata)
        for prompt, noun in dict.fromkeys((request.prompt, nouns[request.subject]) for request in requests):
            cls.check_prompt(prompt, {**nouns, OWN: noun}, layout, tokenizer)

    def _check_own(self, prompt: str, nouns: Nouns) -> None:
        layout = AdapterLayout(self.slots.shapes, self.adapter_metadata())
        self.check_prompt(prompt, nouns, layout, self.backbone.tokenizer)

    def _check_training(self, prompts: Mapping[str, Sequence[str]]) -> None:
        """Check every subject's training prompts now: a bad one in a later group would end the run in its middle."""
        for subject, own in prompts.items():
            for prompt in own:
                try:
                    self._check_own(prompt, {OWN: self.subjects.nouns[subject]})
                except LikenessError as error:
                    raise LikenessError(
                        f"subject {subject} cannot be enrolled: {error}; change data.enrolment.prompts (null is the "
                        "photo's caption), or leave the subject out with data.subjects"
                    ) from None

    def _check_validation(self, requests: Sequence[Request], first: Sequence[str]) -> None:
        """Check the validation prompts now, when only the subjects of the ``first`` group would be known: a bad one
        would end the run in its middle."""
        nouns = {name: self.subjects.nouns[name] for name in first}
        for request in requests:
            for name in ANY_PLACEHOLDER.findall(request.prompt):
                if name == request.subject:
                    raise LikenessError(
                        f"data.validation.prompts: {request.prompt!r} is generated for {name} too, who would be in the "
                        "image twice"
                    )
                if name not in (OWN, *first):
                    raise LikenessError(
                        f"data.validation.prompts: in {request.prompt!r} <{name}> is not a subject of the first group "
                        f"({', '.join(first)})"
                    )
            try:
                self._check_own(request.prompt, {OWN: nouns[request.subject], **nouns})
            except LikenessError as error:
                raise LikenessError(f"data.validation.prompts: {error}") from None
