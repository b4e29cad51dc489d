"""What a Markdown page holds that can be checked: code blocks, commands, inline code, links and anchors."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_FENCE = re.compile(r"^\s*```\s*([\w-]*)")


@dataclass(frozen=True)
class Text:
    """A piece of a page: a code block (with its language, ``text`` where none is named), inline code, or a link."""

    page: Path
    line: int
    text: str
    language: str = "text"

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


@dataclass(frozen=True)
class Page:
    """The blocks of code of a page, and its prose by line number, in which the blocks are left out."""

    path: Path
    blocks: list[Text]
    prose: dict[int, str]


def read_page(path: Path) -> Page:
    """Fenced and indented blocks are code; an indented line that goes on with a list's item is prose."""
    blocks, prose = list[Text](), dict[int, str]()
    lines = path.read_text().splitlines()
    number, in_list = 0, False
    while number < len(lines):
        line, start = lines[number], number + 1
        if fence := _FENCE.match(line):
            end = next(n for n in range(number + 1, len(lines)) if lines[n].strip().startswith("```"))
            blocks.append(Text(path, start, "\n".join(lines[number + 1 : end]), fence[1] or "text"))
            number = end + 1
            continue
        if line.startswith("    ") and not in_list and (number == 0 or not lines[number - 1].strip()):
            end = number
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            blocks.append(Text(path, start, "\n".join(row[4:] for row in lines[number:end]), "text"))
            number = end
            continue
        if line.strip():
            in_list = bool(re.match(r"\s*([-*]|\d+\.) ", line)) or (in_list and line.startswith(" "))
        prose[start] = line
        number += 1
    return Page(path, blocks, prose)


def commands(block: Text) -> Iterator[Text]:
    """The command lines of a block, without comments, ``&&`` and line ends in the middle of a command."""
    waiting, start = "", 0
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        start = start or number
        waiting += line
        if waiting.rstrip().endswith("\\"):
            waiting = waiting.rstrip()[:-1] + " "
            continue
        for command in waiting.split("&&"):
            if words := shlex.split(command, comments=True):
                yield Text(block.page, start, shlex.join(words), block.language)
        waiting, start = "", 0


def inline_code(page: Page) -> Iterator[Text]:
    """The pieces of code in the prose; one may go on in the next line."""
    text = "\n".join(page.prose.values())
    numbers = list(page.prose)
    for match in _INLINE.finditer(text):
        yield Text(page.path, numbers[text[: match.start()].count("\n")], " ".join(match[1].split()))


def links(page: Page) -> Iterator[Text]:
    """The targets of links and images."""
    for number, line in page.prose.items():
        for match in _LINK.finditer(_INLINE.sub("", line)):
            yield Text(page.path, number, match[1])


def anchors(page: Page) -> set[str]:
    """The names of a page's headings, as GitHub and the site's MyST make them."""
    names, seen = set[str](), Counter[str]()
    for line in page.prose.values():
        if heading := re.match(r"#+ (.*)", line):
            name = re.sub(r"[^\w\- ]", "", heading[1].strip().lower()).replace(" ", "-")
            names.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
    return names
