"""DreamBench's own list of subjects and prompts, and prompts that are for some class nouns only."""

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from contracts.errors import LikenessError
from contracts.protocol import Prompt, Protocol
from contracts.settings import ProtocolSettings
from evaluate import main
from leaderboard.plan.prompts import prompts_of, read_prompts
from leaderboard.report.tables.titles import about
from pocket.tiny.components import tiny_clip, tiny_faces
from tests.helpers.real import REAL, needs_real
from tests.leaderboard.test_protocol import make_protocol

TEXT = """Classes

subject_name,class
can,can
cat,cat
grey_plushie, stuffed animal

Prompts

Object Prompts

prompt_list = [
'a {0} {1} in the jungle'.format(unique_token, class_token),
"a {0} {1} on top of a child's rug".format(unique_token, class_token),
'a red {0} {1}'.format(unique_token, class_token)
]

Live Subject Prompts

prompt_list = [
'a {0} {1} in the jungle'.format(unique_token, class_token),
'a {0} {1} wearing a red hat'.format(unique_token, class_token),
'a red {0} {1}'.format(unique_token, class_token),
]
"""


def settings(path: Path, live: list[str]) -> ProtocolSettings:
    return ProtocolSettings(prompts=str(path), backbone=None, resolution=512, live=live)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "prompts_and_classes.txt"
    path.write_text(TEXT)
    return path


def test_both_lists_are_one_set_of_which_every_subject_gets_its_own(path: Path) -> None:
    prompts = prompts_of(settings(path, ["cat"]), ["can", "cat", "stuffed animal"])
    assert prompts == (
        Prompt("in-the-jungle", "scene", "a <subject> in the jungle"),
        Prompt("on-top-of-a-child-s-rug", "scene", "a <subject> on top of a child's rug", ("can", "stuffed animal")),
        Prompt("red", "attribute", "a red <subject>"),
        Prompt("wearing-a-red-hat", "accessory", "a <subject> wearing a red hat", ("cat",)),
    )
    protocol = make_protocol(subjects={"can": "can", "cat": "cat"}, prompts=prompts, samples=1)
    assert [request.id for request in protocol.requests] == [
        "can.in-the-jungle.00",
        "can.on-top-of-a-child-s-rug.00",
        "can.red.00",
        "cat.in-the-jungle.00",
        "cat.red.00",
        "cat.wearing-a-red-hat.00",
    ]
    board = {"protocol": {**protocol.to_json(), "images": 6}, "entries": []}
    assert "2 subjects x 4 prompts x 1 samples - 2 whose prompt is for subjects of another class = 6" in about(board)


def test_prompts_for_nobody_here_are_left_out(path: Path) -> None:
    """Only objects, or only live subjects: then all prompts of the list are for all."""
    assert [p.id for p in prompts_of(settings(path, ["cat"]), ["mug"])] == [
        "in-the-jungle",
        "on-top-of-a-child-s-rug",
        "red",
    ]
    live = prompts_of(settings(path, ["cat"]), ["cat", "cat"])
    assert [p.id for p in live] == ["in-the-jungle", "red", "wearing-a-red-hat"] and not any(p.nouns for p in live)


def test_the_file_may_be_written_in_many_ways(path: Path, tmp_path: Path) -> None:
    plain = prompts_of(settings(path, ["cat"]), ["can", "cat"])
    odd = "\ufeff" + TEXT.replace("\n", "\r\n").replace("{0} {1}", "{0}  {1}").replace("'.format(", "' . format( ")
    odd = odd.replace("Object Prompts", "OBJECT PROMPTS:").replace(",class", ", Class").replace("cat,cat", "cat, cat")
    path.write_bytes(odd.encode())
    assert prompts_of(settings(path, ["cat"]), ["can", "cat"]) == plain


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("subject_name,class\ncan,can\ncat,cat\ngrey_plushie, stuffed animal", ""), "has no table of classes"),
        ((".format(unique_token, class_token)", ""), "has no prompts"),
        (("'a red {0} {1}'", "'a red {0} {1} and {2}'"), "line 15: the prompt must hold {0} {1} once"),
        (("'a red {0} {1}'", "'a {0} {1} and a {0} {1}'"), "line 15: the prompt must hold {0} {1} once"),
        (("'a red {0} {1}'", "'a {0} {1} in the jungle'"), "line 15: the prompt stands twice in its list"),
        (("Object Prompts", "Prompts of objects"), "line 13: the prompt stands below no heading"),
        (("cat,cat", "can,cat"), "the line 'can,cat' of the table of classes is not"),
        (("can,can", "can,can\ncat2,dog"), "protocol.live: "),
    ],
    ids=lambda value: None if isinstance(value, tuple) else value[:20],
)
def test_what_it_cannot_mean_is_one_line(path: Path, change: tuple[str, str], words: str) -> None:
    path.write_text(TEXT.replace(*change))
    live = ["horse"] if "live" in words else ["cat"]
    with pytest.raises(LikenessError, match=re.escape(words)) as error:
        prompts_of(settings(path, live))
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_which_classes_are_live_must_be_said(path: Path, tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match=re.escape("name the live classes in protocol.live: [cat, dog]")):
        prompts_of(settings(path, []))
    with pytest.raises(LikenessError, match=r"nowhere\.txt cannot be read: No such file"):
        prompts_of(settings(tmp_path / "nowhere.txt", ["cat"]))
    with pytest.raises(LikenessError, match=r"protocol\.live is for prompts_and_classes\.txt"):
        prompts_of(settings(Path("configs/prompts/objects.yaml"), ["cat"]))


def test_nothing_in_the_file_is_run(path: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path.write_text(TEXT + f"\nopen({str(mark)!r}, 'w')\n__import__('os').mkdir({str(mark)!r})\n")
    prompts_of(settings(path, ["cat"]))
    assert not mark.exists()


def test_prompts_of_a_set_may_be_for_some_class_nouns(tmp_path: Path) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(
        "prompts: [{id: a, class: mix, text: a <subject>}, {id: b, class: action, text: <subject> runs, nouns: [dog]}]"
    )
    prompts = read_prompts(str(path))
    assert [prompt.nouns for prompt in prompts] == [(), ("dog",)]
    protocol = make_protocol(subjects={"s1": "dog", "s2": "cup"}, prompts=prompts)
    assert {(r.subject, r.prompt_id) for r in protocol.requests} == {("s1", "a"), ("s1", "b"), ("s2", "a")}
    assert Protocol.from_json(protocol.to_json()) == protocol
    assert prompts_of(settings(path, []), ["cup"]) == prompts[:1]
    path.write_text("prompts: [{id: b, class: action, text: <subject> runs, nouns: [dog]}]")
    with pytest.raises(LikenessError, match="has no prompt for cup"):
        prompts_of(settings(path, []), ["cup"])
    path.write_text("prompts: [{id: b, class: action, text: <subject> runs, nouns: dog}]")
    with pytest.raises(LikenessError, match="nouns of prompt 0 must be a list of class nouns"):
        read_prompts(str(path))


def test_a_protocol_whose_prompts_are_for_all_keeps_the_hash_that_it_had() -> None:
    """The hash of before prompts had nouns: over all fields that are set, with three fields for each prompt."""
    protocol = make_protocol()
    fields = {name: value for name, value in asdict(protocol).items() if value is not None}
    fields["prompts"] = [{"id": p.id, "prompt_class": p.prompt_class, "text": p.text} for p in protocol.prompts]
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    assert protocol.hash == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert "nouns" not in str(protocol.to_json())


@needs_real
def test_the_data_set_itself_has_25_prompts_for_every_subject() -> None:
    path = REAL / "objects" / "prompts_and_classes.txt"
    nouns = ["backpack", "stuffed animal", "candle", "toy", "cat", "dog"]
    prompts = prompts_of(settings(path, ["cat", "dog"]), nouns)
    assert len(prompts) == 35 and len({prompt.id for prompt in prompts}) == 35
    for noun in nouns:
        assert sum(prompt.is_for("x", noun) for prompt in prompts) == 25
    assert len(prompts_of(settings(path, ["cat", "dog"]), nouns[:4])) == 25


@needs_real
@pytest.mark.slow
def test_the_data_set_itself_is_planned_from_its_own_folder(tmp_path: Path) -> None:
    """With the shipped configuration, but for what is not on this machine: 25 prompts x 4 samples for each subject."""
    output, objects = tmp_path / "results", REAL / "objects"
    changes = {
        "protocol.dataset": objects,
        "protocol.prompts": objects / "prompts_and_classes.txt",
        "protocol.subjects": 6,
        "protocol.backbone": "null",
        "protocol.resolution": 128,
        "judges.faces": tiny_faces(tmp_path / "faces"),
        "judges.clip": tiny_clip(tmp_path / "clip"),
        "judges.image_backbone": "null",
    }
    options = [word for name, value in changes.items() for word in (f"--{name}", str(value))]
    arguments = ["--config", "configs/evaluation/dreambench.yaml", "--output", str(output), "--stage", "plan"]
    assert main([*arguments, *options]) == 0
    rows = [json.loads(line) for line in (output / "requests.jsonl").read_text().splitlines()]
    assert len(rows) == 6 * 25 * 4 and len({row["id"] for row in rows}) == len(rows)
    assert {row["class"] for row in rows} == {"backpack", "stuffed animal", "candle", "toy"}
