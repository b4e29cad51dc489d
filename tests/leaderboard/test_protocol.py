import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from contracts.errors import LikenessError
from contracts.prompts import plain_prompt
from contracts.protocol import Prompt, Protocol, prompts_hash
from leaderboard.plan.prompts import PROMPT_CLASSES, read_prompts
from pocket.render.captions import caption
from pocket.render.factors import draw_shot, draw_subject


def make_protocol(**changes: object) -> Protocol:
    protocol = Protocol(
        subjects={"s1": "person", "s2": "person"},
        prompts=(Prompt("beach", "scene", "a photo of a <subject>, on a beach"), Prompt("hat", "mix", "a <subject>")),
        samples=2,
        sampler="ddim",
        steps=3,
        guidance=3.0,
        resolution=64,
        seed=0,
        backbone="b" * 64,
        photos="c" * 64,
        metrics={"clip_t": "clip_t@x"},
    )
    return replace(protocol, **changes)


def test_requests_are_the_whole_grid_once() -> None:
    requests = make_protocol().requests
    assert len(requests) == 2 * 2 * 2
    assert len({request.id for request in requests}) == len(requests)
    assert requests[0].id == "s1.beach.00"


@pytest.mark.parametrize("change", [{"steps": 4}, {"guidance": 3.5}, {"seed": 1}, {"metrics": {"clip_t": "other"}}])
def test_everything_that_decides_an_image_or_a_score_is_in_the_hash(change: dict) -> None:
    assert make_protocol(**change).hash != make_protocol().hash


def test_a_limit_takes_few_images_of_many_subjects_and_prompts() -> None:
    prompts = tuple(Prompt(f"p{i}", "scene", "a <subject>") for i in range(5))
    whole = make_protocol(subjects=dict.fromkeys("abcd", "person"), prompts=prompts)
    few = replace(whole, limit=8)
    assert len(few.requests) == 8 and set(few.requests) <= set(whole.requests)
    assert [r.id for r in few.requests] == [r.id for r in whole.requests if r in few.requests], "in the plan's order"
    assert {r.subject for r in few.requests} == set("abcd")
    assert len({r.prompt_id for r in few.requests}) == 4
    assert {r.sample for r in few.requests} == {0, 1}, "the samples of a prompt stay together, for diversity"


def test_a_prompt_is_not_generated_for_a_subject_that_it_names_beside_the_own_one() -> None:
    two = Prompt("two", "scene", "a <subject> and a <s2>, on a beach")
    whole = make_protocol(subjects=dict.fromkeys(("s1", "s2", "s3"), "person"), prompts=(two, *make_protocol().prompts))
    assert {r.subject for r in whole.requests if r.prompt_id == "two"} == {"s1", "s3"}
    assert len(whole.requests) == 3 * 3 * 2 - 2
    assert len(replace(whole, limit=12).requests) == 12, "a limit counts what is generated"


def test_a_quick_look_is_never_taken_for_the_whole() -> None:
    whole = make_protocol()
    hashes = {whole.hash, *(replace(whole, limit=limit).hash for limit in (1, 4, len(whole.requests)))}
    assert len(hashes) == 4
    assert replace(whole, limit=1000).requests == whole.requests


def test_a_limit_survives_json() -> None:
    few = make_protocol(limit=3)
    assert Protocol.from_json(json.loads(json.dumps(few.to_json()))) == few


def test_json_and_back_keeps_the_hash() -> None:
    protocol = make_protocol()
    again = Protocol.from_json(json.loads(json.dumps(protocol.to_json())))
    assert again == protocol and again.hash == protocol.hash


@pytest.mark.parametrize("change", [{"samples": 10**9}, {"subjects": {f"s{i}": "person" for i in range(3_000_000)}}])
def test_a_protocol_without_end_is_refused_before_it_is_written_out(change: dict) -> None:
    with pytest.raises(LikenessError, match="are more than 10,000,000 images: take fewer"):
        make_protocol(**change)
    with pytest.raises(LikenessError, match=r"are more than|is damaged"):
        Protocol.from_json({**make_protocol().to_json(), **change})


def test_a_protocol_changed_by_hand_is_refused() -> None:
    with pytest.raises(LikenessError, match="changed by hand"):
        Protocol.from_json({**make_protocol().to_json(), "steps": 50})


def test_a_protocol_of_another_version_is_refused() -> None:
    with pytest.raises(LikenessError, match="another version"):
        Protocol.from_json({**make_protocol().to_json(), "colour": "red"})


def test_the_judge_reads_the_class_noun_and_no_double_spaces() -> None:
    assert plain_prompt("a  photo of a <subject> , smiling", "s1", {"s1": "person"}) == "a photo of a person , smiling"


def test_a_second_subject_is_its_own_class_noun_to_the_judge() -> None:
    nouns = {"s1": "person", "s2": "dog"}
    assert plain_prompt("a <subject> and a <s2>", "s1", nouns) == "a person and a dog"
    with pytest.raises(LikenessError, match=r"<s3> names no subject; known: s1, s2"):
        plain_prompt("a <subject> and a <s3>", "s1", nouns)


@pytest.mark.parametrize("name", ["pocket", "pocket_full", "pocket_pairs"])
def test_pocket_prompts_use_the_words_of_the_captions(name: str) -> None:
    words: set[str] = set()
    for i in range(1500):
        words |= set(re.findall(r"\w+", caption(draw_subject(str(i)), draw_shot(str(i)), str(i), detail=1.0, pose=1.0)))
    for prompt in read_prompts(f"configs/prompts/{name}.yaml", of_two=True):
        assert set(re.findall(r"\w+", plain_prompt(prompt.text, "s1", {"s1": "person"}))) <= words, prompt


@pytest.mark.parametrize(("name", "per_class"), [("pocket_full", 6), ("people", 10), ("objects", 6)])
def test_shipped_sets_have_as_many_prompts_of_every_class(name: str, per_class: int) -> None:
    prompts = read_prompts(f"configs/prompts/{name}.yaml")
    assert Counter(prompt.prompt_class for prompt in prompts) == dict.fromkeys(PROMPT_CLASSES, per_class)
    assert len({prompt.text for prompt in prompts}) == len(prompts)


@pytest.mark.parametrize("name", ["pocket", "pocket_full", "people", "objects", "pocket_pairs", "people_pairs"])
def test_a_shipped_set_cannot_change_unnoticed(name: str, tmp_path: Path) -> None:
    text = Path(f"configs/prompts/{name}.yaml").read_text()
    changed = tmp_path / "changed.yaml"
    changed.write_text(text.replace("a photo of a", "the photo of a", 1))
    with pytest.raises(LikenessError, match="was changed: its key sha256 does not fit"):
        read_prompts(str(changed), of_two=True)
    changed.write_text("\n".join(line for line in text.splitlines() if not line.startswith("sha256")))
    assert prompts_hash(read_prompts(str(changed), of_two=True)) in text


def test_the_placeholder_is_data(tmp_path: Path) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text('placeholder: "sks"\nprompts: [{id: a, class: mix, text: "a photo of sks, \\"smiling\\" 🙂"}]')
    (prompt,) = read_prompts(str(path))
    assert prompt.text == 'a photo of <subject>, "smiling" 🙂'
    assert plain_prompt(prompt.text, "s1", {"s1": "dog"}) == 'a photo of dog, "smiling" 🙂'


def test_a_prompt_of_500_words_and_one_from_right_to_left_are_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.yaml"
    long = "a <subject> " + "very " * 500 + "far away"
    texts = [{"id": "long", "class": "mix", "text": long}, {"id": "rtl", "class": "mix", "text": "صورة <subject>"}]
    path.write_text(yaml.safe_dump({"prompts": texts}, allow_unicode=True))
    assert [prompt.text for prompt in read_prompts(str(path))] == [long, "صورة <subject>"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompts: []", "no list `prompts`"),
        ("prompts: [{id: a, class: scene}]", "prompt 0 must have exactly id, class and text"),
        ("prompts: [{id: A/b, class: scene, text: a <subject>}]", "prompt id 'A/b'"),
        ("prompts: [{id: a, class: place, text: a <subject>}]", "class 'place' of a"),
        ("prompts: [{id: a, class: scene, text: a person}]", "must hold <subject> once"),
        ("prompts: [{id: a, class: mix, text: <subject>}, {id: a, class: mix, text: <subject>}]", "twice: a"),
        ("prompts: [", "is no YAML"),
        ("prompts: [{id: a, class: mix, text: ''}]", "must hold <subject> once"),
        ("prompts: [{id: ../a, class: mix, text: <subject>}]", "prompt id '../a'"),
        ("placeholder: sks\nprompts: [{id: a, class: mix, text: sks and <subject>}]", "holds <subject> beside"),
        ("placeholder: ''\nprompts: [{id: a, class: mix, text: <subject>}]", "placeholder must be a text"),
        ("noun: dog\nprompts: [{id: a, class: mix, text: <subject>}]", "key 'noun' is none of"),
    ],
)
def test_a_bad_prompt_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(text)
    with pytest.raises(LikenessError, match=re.escape(message)) as error:
        read_prompts(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_prompt_file_names_its_key() -> None:
    with pytest.raises(LikenessError, match=r"protocol\.prompts"):
        read_prompts("nowhere.yaml")
