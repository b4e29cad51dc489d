"""SeFi-IDE's exact checks: what it reduces to, which denoising stage is used when, what may differ, what is kept."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from claims.checks import Check
from contracts.batch import SubjectBatch
from contracts.conditioning import Conditioning
from contracts.text import Text
from lightning_modules.sefi_ide import SefiIDE
from networks.backbone import Backbone, load_backbone
from networks.keyed_noise import keyed_normal
from networks.subject_tensors import VECTORS

PROMPT = "a photo of a <subject>, in a garden"
NOUN = "person"
STAGES = 5
EXACT = 1e-5
"""Largest difference between two ways of computing one number that the order of additions may cause."""


def exact_checks(backbone: str) -> list[Check]:
    """F1, F2, F3, F4 and F7, on the base model in the folder ``backbone``."""
    base = load_backbone(backbone)
    return [*_reductions(base), *_routing(base), *_causality(base), *_frozen(base)]


def _subject(base: Backbone, **arguments: object) -> SefiIDE:
    """The method with one subject ``s``, whose vectors are still those of its class noun."""
    side = base.latent_shape[1] // 2
    module = SefiIDE(base, attention_side=side, **arguments)  # type: ignore[arg-type]
    module.prepare({"s": NOUN}, 1, seed=0)
    module.start_group(("s",))
    module.collect()
    return module


def _batch(base: Backbone, t: int) -> SubjectBatch:
    channels, *grid = base.latent_shape
    noise = keyed_normal((1, channels, *grid), "claims", "noise")
    return SubjectBatch(
        group=("s",),
        step=0,
        subjects=("s",),
        prompts=(PROMPT,),
        moments=keyed_normal((1, 2 * channels, *grid), "claims", "moments"),
        latent_noise=noise,
        noise=noise,
        timestep=torch.tensor([t]),
    )


@torch.no_grad()
def _furthest(module: SefiIDE, first: Conditioning, second: Conditioning) -> float:
    """The largest difference between two conditionings' predictions, over the timesteps."""
    z = keyed_normal((1, *module.backbone.latent_shape), "claims", "latents")
    times = [torch.tensor([t]) for t in range(0, 1000, 111)]
    return max(_distance(module.denoise(z, t, first), module.denoise(z, t, second)) for t in times)


def _conditioning(module: SefiIDE) -> Conditioning:
    keys, values = module.encode_prompt(PROMPT, "s")
    return Conditioning.from_stages([keys], values[None])


@torch.no_grad()
def _inverted(base: Backbone, vector: Tensor) -> Conditioning:
    """The prompt as textual inversion reads it: ``vector`` (D,) is the embedding of a new token of the vocabulary.

    Only copies of the tokenizer and of the text encoder are used, nothing of the method.
    """
    tokenizer = deepcopy(base.tokenizer)
    encoder: Any = deepcopy(base.text.encoders[0])
    tokenizer.add_tokens("<learnt>")
    encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    encoder.get_input_embeddings().weight[-1] = vector
    text = PROMPT.replace("<subject>", "<learnt>")
    ids = tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return Conditioning.from_text(Text(encoder(ids).last_hidden_state))


def _reductions(base: Backbone) -> list[Check]:
    """F1: vectors of the class noun are the plain prompt. F2: one vector everywhere is textual inversion."""
    module = _subject(base)
    plain = Conditioning.from_text(base.encode_text([PROMPT.replace("<subject>", NOUN)]))
    still = _furthest(module, _conditioning(module), plain)
    with torch.no_grad():
        loss = max(float(module.loss_terms(_batch(base, t))["attention"]) for t in (100, 500, 900))
    vector = keyed_normal((module.width,), "claims", "vector") * module.noun_embedding(NOUN).std()
    stock = _inverted(base, vector)
    inversion = 0.0
    for stages, key_value in ((STAGES, "split"), (1, "shared")):
        one = _subject(base, stages=stages, key_value=key_value)
        one.subjects.store(["s"], {VECTORS: vector.expand(1, *one.shape)})
        inversion = max(inversion, _furthest(module, _conditioning(one), stock))
    return [
        Check("F1 with the class noun's vectors the prediction is the plain prompt's", still, EXACT, still < EXACT),
        Check("F1 and the attention loss is 0", loss, EXACT, loss < EXACT),
        Check("F2 one vector at all stages, key = value, is textual inversion", inversion, EXACT, inversion < EXACT),
    ]


def _routing(base: Backbone) -> list[Check]:
    """F3: timestep t reads denoising stage floor(5 t / 1000)."""
    marked = torch.arange(STAGES, dtype=torch.float32).view(1, STAGES, 1, 1).expand(1000, -1, -1, -1)
    read = Conditioning(marked, 10 + marked).at(torch.arange(1000))
    expected = torch.arange(1000) // (1000 // STAGES)
    wrong = int((read.text_keys.flatten() != expected).sum() + (read.text_values.flatten() != 10 + expected).sum())
    return [Check("F3 timesteps 0..199 read stage 0, ..., 800..999 stage 4", wrong, 0, wrong == 0)]


def _causality(base: Backbone) -> list[Check]:
    """F4: the text transformer is causal, so tokens before the subject's have the keys of the reference prompt."""
    module = _subject(base)
    module.subjects.store(["s"], {VECTORS: keyed_normal((1, *module.shape), "claims", "vectors")})
    keys = module.encode_prompt(PROMPT, "s")[0].states
    plain = base.encode_text([PROMPT.replace("<subject>", NOUN)]).states
    place = 1 + len(base.tokenizer(PROMPT.split("<")[0], add_special_tokens=False).input_ids)
    before = _distance(keys[:, :place], plain[:, :place])
    after = float((keys - plain)[:, place:].abs().amax(-1).min())
    return [
        Check("F4 tokens before the subject's have the reference prompt's states", before, EXACT, before < EXACT),
        Check("F4 the subject's and all later ones differ", after, EXACT, after > EXACT),
    ]


def _frozen(base: Backbone) -> list[Check]:
    """F7: frozen weights get no gradient, and a subject is 2 x stages vectors."""
    module = _subject(base)
    torch.stack(list(module.loss_terms(_batch(base, 500)).values())).sum().backward()
    touched = sum(parameter.grad is not None for parameter in base.parameters())
    kept = sum(value.numel() for value in module.adapter().state_dict().values())
    size = 2 * STAGES * module.width
    return [
        Check("F7 frozen weights that hold a gradient", touched, 0, touched == 0),
        Check(f"F7 numbers kept of a subject, 10 x {module.width}", kept, size, kept == size),
    ]


def _distance(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max())
