"""Which files of the repository are pages of the site, and where their links lead there.

The pages are Markdown that reads well in the repository, too. What they link to outside of docs/ becomes a page as
well: Markdown as it is, any other file as its text, a folder as the list of its files. So the site needs no address of
the repository.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = "docs"
LINK: Final = re.compile(r"(?<=\]\()(?P<target>[^()\s#]+)(?P<fragment>#[^()\s]*)?(?=\))")
FENCE: Final = re.compile(r"^ *(```|~~~)")
EXTERNAL: Final = re.compile(r"[a-z][a-z0-9+.-]*:")
LANGUAGES: Final = {".json": "json", ".py": "python", ".sh": "sh", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}


class BrokenLinkError(Exception):
    """A page links to what isn't there."""


def place(path: str) -> str:
    """Where a file or folder of the repository is among the site's sources."""
    inside = posixpath.relpath(path, DOCS) if path.startswith(f"{DOCS}/") else path
    visible = "/".join(part.lstrip(".") for part in inside.split("/"))
    whole = ROOT / path
    if whole.is_dir():
        return f"{visible}/index.md"
    if whole.name == "README.md":  # of this name it would be its section's first page, and in no list
        return f"{posixpath.dirname(visible)}.md"
    if inside != path and whole.suffix != ".md":
        return visible  # a picture
    return visible if whole.suffix == ".md" else f"{visible}.md"


def linked(path: str) -> Iterator[str]:
    """The paths, from the repository's root, to which a page links, outside of code."""
    for line in prose((ROOT / path).read_text()):
        for found in LINK.finditer(line):
            if not EXTERNAL.match(found["target"]):
                yield _resolved(path, found["target"])


def for_the_site(path: str) -> str:
    """A page's text as the site has it: its links lead to pages of the site."""
    source = ROOT / path
    if source.is_dir():
        return _listing(path)
    if source.suffix != ".md":
        return _shown(path)

    def link(found: re.Match[str]) -> str:
        if EXTERNAL.match(found["target"]):
            return found[0]
        target = place(_resolved(path, found["target"]))
        return posixpath.relpath(target, posixpath.dirname(place(path)) or ".") + (found["fragment"] or "")

    lines = source.read_text().splitlines()
    outside = set(_prose_numbers(lines))
    return "\n".join(LINK.sub(link, line) if number in outside else line for number, line in enumerate(lines)) + "\n"


def prose(text: str) -> Iterator[str]:
    """The lines of a page that are no code."""
    lines = text.splitlines()
    return (lines[number] for number in _prose_numbers(lines))


def _prose_numbers(lines: list[str]) -> Iterator[int]:
    closing = ""
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if fence and closing in ("", fence[1]):
            closing = "" if closing else fence[1]
        elif not closing:
            yield number


def _resolved(path: str, target: str) -> str:
    found = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if not (ROOT / found).exists():
        raise BrokenLinkError(f"{path} links to {target}, which isn't there")
    return found


def _shown(path: str) -> str:
    source = ROOT / path
    language = LANGUAGES.get(source.suffix, "text")
    return f"# `{PurePosixPath(path)}`\n\n````{language}\n{source.read_text().rstrip()}\n````\n"


def _listing(path: str) -> str:
    files = sorted(file.name for file in (ROOT / path).iterdir() if file.is_file())
    rows = [
        f"- [`{name}`]({posixpath.relpath(place(f'{path}/{name}'), place(path)[: -len('/index.md')])})"
        for name in files
    ]
    return f"# `{path}/`\n\n" + "\n".join(rows) + "\n"
