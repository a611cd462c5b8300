"""Brings together what the site is generated from, in a folder that is made anew each time."""

import re
import shutil
from pathlib import Path
from typing import Final

from website.pages import DOCS, ROOT, for_the_site, linked, place

HERE: Final = Path(__file__).parent
CONFIG: Final = HERE / "zensical.toml"
PICTURE: Final = re.compile(r"^!\[(?P<said>[^\]]*)\]\((?P<file>[^)]+\.svg)\)$", re.MULTILINE)
DARK: Final = re.compile(r"@media \(prefers-color-scheme: dark\) \{(?P<rules>.*?)\n\s*\}\n", re.DOTALL)
STYLES: Final = "extra.css"
ADRS: Final = '"adr/index.md"'


class NotInNavigationError(Exception):
    """A page of docs/ can't be found on the site."""


def stage(folder: Path) -> None:
    """Write the configuration and all pages into a folder.

    Raises:
        BrokenLinkError: A page links to what isn't there.
        NotInNavigationError: A page is in no section.
    """
    shutil.rmtree(folder, ignore_errors=True)
    pages = folder / "pages"
    for path in sorted(everything()):
        target = pages / place(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".svg"):
            put_picture(ROOT / path, target)
        else:
            target.write_text(for_both_switches(path))
    shutil.copy(HERE / STYLES, pages / STYLES)
    (folder / CONFIG.name).write_text(configuration())


def everything() -> set[str]:
    """The paths of all that the site shows: docs/, and what is linked from there, and from there again."""
    found: set[str] = set()
    ahead = [path.relative_to(ROOT).as_posix() for path in (ROOT / DOCS).rglob("*") if path.is_file()]
    while ahead:
        path = ahead.pop()
        if path in found:
            continue
        found.add(path)
        if (ROOT / path).is_dir():
            ahead += [f"{path}/{file.name}" for file in (ROOT / path).iterdir() if file.is_file()]
        elif path.endswith(".md"):
            ahead += linked(path)
    return found


def configuration() -> str:
    """The site's configuration, with all decisions."""
    config = CONFIG.read_text()
    decisions = [f'"adr/{path.name}"' for path in sorted((ROOT / DOCS / "adr").glob("0*.md"))]
    config = config.replace(ADRS, ", ".join([ADRS, *decisions]))
    pages = {path.relative_to(ROOT / DOCS).as_posix() for path in (ROOT / DOCS).rglob("*.md")}
    if lost := sorted(page for page in pages if f'"{page}"' not in config):
        raise NotInNavigationError(f"{', '.join(lost)}: in no section; add it to website/zensical.toml")
    return config


def put_picture(source: Path, target: Path) -> None:
    """A drawing that goes with the reader's system is, on the site, two, as its own switch is what counts there."""
    text = source.read_text()
    target.write_text(text)
    if DARK.search(text):
        target.with_suffix(".light.svg").write_text(DARK.sub("", text))
        target.with_suffix(".dark.svg").write_text(DARK.sub(lambda found: found["rules"] + "\n", text))


def for_both_switches(path: str) -> str:
    """A page's text as the site has it, with both forms of each drawing."""

    def both(found: re.Match[str]) -> str:
        drawing = (ROOT / path).parent / found["file"]
        if not (drawing.exists() and DARK.search(drawing.read_text())):
            return found[0]
        stem = found["file"].removesuffix(".svg")
        return "\n".join(f"![{found['said']}]({stem}.{mode}.svg#only-{mode})" for mode in ("light", "dark"))

    return PICTURE.sub(both, for_the_site(path))
