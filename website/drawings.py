"""`make drawings`: the drawings of the concepts, as SVG that follows the reader's light or dark."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

FOLDER: Final = Path(__file__).parents[1] / "docs" / "pictures"
STYLE: Final = """
  text { font: 13px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #1f2937 }
  .small { font-size: 11.5px } .bold { font-weight: 600 }
  .paper { fill: #ffffff } .box { fill: #f3f6fb; stroke: #8796ab } .line { stroke: #8796ab; fill: none }
  .arrow { stroke: #4b5b73; fill: none; stroke-width: 1.6 } .head { fill: #4b5b73 }
  .first { fill: #bcd7f7 } .second { fill: #c3e6c8 } .window { fill: #f7c777 }
  .outage { fill: #f3b4ae } .mark { stroke: #b3261e; stroke-width: 2 }
  .good { stroke: #1d7a35; stroke-width: 2.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e5e9f0 }
    .paper { fill: #1b1f27 } .box { fill: #272d38; stroke: #6b7a90 } .line { stroke: #6b7a90 }
    .arrow { stroke: #a9b6c9 } .head { fill: #a9b6c9 }
    .first { fill: #27507e } .second { fill: #2a5d36 } .window { fill: #8a5f14 }
    .outage { fill: #7b302b } .mark { stroke: #ff8a80 }
    .good { stroke: #69d087 }
  }
"""


class Drawing:
    """Shapes on a sheet of paper."""

    def __init__(self, width: int, height: int, said: str) -> None:
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n'
            f"<title>{escape(said)}</title>\n<style>{STYLE}</style>\n"
        )
        self._shapes = [f'<rect class="paper" width="{width}" height="{height}" rx="8"/>']

    def box(self, x: float, y: float, width: float, height: float, kind: str = "box") -> None:
        """A rectangle."""
        self._shapes.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4"/>')

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """A line of text."""
        self._shapes.append(f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>')

    def line(self, points: tuple[float, float, float, float], kind: str = "line", dashes: str = "none") -> None:
        """A straight line."""
        x1, y1, x2, y2 = points
        self._shapes.append(
            f'<line class="{kind}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke-dasharray="{dashes}"/>'
        )

    def arrow(self, points: tuple[float, float, float, float]) -> None:
        """A line across or down, with a head at its end."""
        x1, y1, x2, y2 = points
        self.line(points, "arrow")
        forward = 1 if x2 > x1 or y2 > y1 else -1
        corners = (
            f"{x2},{y2} {x2 - 9 * forward},{y2 - 4.5} {x2 - 9 * forward},{y2 + 4.5}"
            if y1 == y2
            else f"{x2},{y2} {x2 - 4.5},{y2 - 9 * forward} {x2 + 4.5},{y2 - 9 * forward}"
        )
        self._shapes.append(f'<polygon class="head" points="{corners}"/>')

    def svg(self) -> str:
        """The drawing as a file's text."""
        return self._head + "\n".join(self._shapes) + "\n</svg>\n"


class Token(NamedTuple):
    """Of an hour, in minutes; as the operator computes them."""

    lifetime: float = 60
    renewal: float = 40
    spread: float = 4
    """How much earlier it may be: a tenth of what lies before the renewal."""


def drawings() -> Iterator[tuple[str, str]]:
    """Each drawing's file name and text."""
    yield "overview.svg", _overview().svg()
    yield "life.svg", _life(Token()).svg()
    yield "outage.svg", _outage().svg()
    yield "reserve.svg", _reserve().svg()


def _overview() -> Drawing:
    drawing = Drawing(775, 250, "From an AssetToken and credentials to a token that a Pod reads from a Secret")
    for x, y, width, head, body, height in (
        (20, 30, 195, "AssetToken", ("environment, business,", "scopes, lifetime"), 76),
        (20, 140, 195, "Secret asset-credentials", ("client_id, client_secret",), 58),
        (
            290,
            30,
            195,
            "asset-token-operator",
            ("requests the token, writes it", "into the Secret, renews it", "before it expires"),
            168,
        ),
        (545, 20, 195, "Asset's API", ("POST /v0/auth/token",), 58),
        (545, 104, 210, "Secret ledger-writer-token", ("access_token, authorization,", "expires_at, base_url"), 76),
        (545, 200, 210, "Pod", (), 36),
    ):
        drawing.box(x, y, width, height)
        drawing.text(x + 12, y + 23, head, "bold")
        for number, words in enumerate(body):
            drawing.text(x + 12, y + 43 + 17 * number, words, "small")
    drawing.text(590, 223, "reads the file for each use", "small")
    drawing.arrow((215, 88, 290, 88))
    drawing.text(222, 80, "watches", "small")
    drawing.arrow((215, 152, 290, 152))
    drawing.text(232, 168, "reads", "small")
    drawing.arrow((485, 49, 545, 49))
    drawing.text(491, 41, "requests", "small")
    drawing.arrow((485, 142, 545, 142))
    drawing.text(497, 158, "writes", "small")
    drawing.arrow((642, 180, 642, 200))
    return drawing


LEFT: Final = 150
MINUTE: Final = 7.3


def _at(minute: float) -> float:
    return LEFT + minute * MINUTE


def _axis(drawing: Drawing, y: float) -> None:
    drawing.line((LEFT, y, _at(80), y))
    for minute in range(0, 81, 10):
        drawing.line((_at(minute), y, _at(minute), y + 5))
        drawing.text(_at(minute), y + 20, f"{minute} min", "small", "middle")


def _life(token: Token) -> Drawing:
    drawing = Drawing(780, 270, "The life of a token of an hour: renewed after 40 minutes, valid for 60")
    earliest, late = token.renewal - token.spread, 2
    drawing.text(16, 64, "First token", "bold")
    drawing.box(_at(0), 46, token.lifetime * MINUTE, 28, "first")
    drawing.box(_at(token.renewal), 46, (token.lifetime - token.renewal) * MINUTE, 28, "window")
    drawing.text(_at(token.renewal) + 8, 64, "renewal window", "small")
    drawing.text(_at(0) + 8, 64, "issued", "small")
    drawing.text(_at(token.lifetime), 38, "expires", "small", "middle")
    drawing.line((_at(token.lifetime), 42, _at(token.lifetime), 170), "mark")
    drawing.text(_at(earliest) - 8, 24, "renewed here,", "small", "end")
    drawing.text(_at(earliest) - 8, 38, "spread by up to a tenth", "small", "end")
    drawing.line((_at(earliest), 26, _at(token.renewal), 26), "good")
    drawing.line((_at(earliest), 30, _at(earliest), 170), "line", "4 3")
    drawing.text(16, 112, "Second token", "bold")
    drawing.box(_at(earliest), 94, (80 - earliest) * MINUTE, 28, "second")
    drawing.text(_at(earliest) + 8, 112, "issued; the Secret has it at once", "small")
    drawing.text(16, 160, "What Pods read", "bold")
    drawing.box(_at(0), 142, (earliest + late) * MINUTE, 28, "first")
    drawing.box(_at(earliest + late), 142, (80 - earliest - late) * MINUTE, 28, "second")
    drawing.text(_at(earliest + late) + 8, 160, "a mounted file changes within some two minutes", "small")
    drawing.text(_at(0) + 8, 160, "the first token", "small")
    _axis(drawing, 190)
    drawing.text(
        16, 248, "Both are valid meanwhile: a Pod that still reads the first one has until it expires.", "small"
    )
    return drawing


def _outage() -> Drawing:
    drawing = Drawing(
        780, 300, "An outage of 15 minutes in the renewal window: the old token stays valid, and attempts go on"
    )
    begins, ends = 37.0, 52.0
    drawing.text(16, 42, "Asset", "bold")
    drawing.box(_at(begins), 24, (ends - begins) * MINUTE, 28, "outage")
    drawing.text(_at(begins) + 8, 42, "doesn't answer", "small")
    drawing.text(16, 90, "Requests", "bold")
    for minute in (38, 38.2, 38.6, 39.4, 41, 43.5, 46.5, 49.5):
        drawing.line((_at(minute), 74, _at(minute), 98), "mark")
    drawing.line((_at(ends + 0.2), 70, _at(ends + 0.2), 102), "good")
    drawing.text(_at(ends) + 10, 90, "issued within seconds of its return", "small")
    drawing.text(16, 138, "Secret", "bold")
    drawing.box(_at(0), 120, ends * MINUTE, 28, "first")
    drawing.box(_at(ends), 120, (80 - ends) * MINUTE, 28, "second")
    drawing.text(_at(0) + 8, 138, "the first token, valid until 60 min", "small")
    drawing.text(_at(ends) + 8, 138, "the second token", "small")
    for row, (name, spans) in enumerate(
        {
            "Ready": ((0, 80, "True all the time", "second"),),
            "Issuing": (
                (0, 38, "False: SecretSynced", "box"),
                (38, ends, "True: why it fails", "outage"),
                (ends, 80, "False", "box"),
            ),
        }.items()
    ):
        y = 168 + 44 * row
        drawing.text(16, y + 18, name, "bold")
        for begin, end, words, kind in spans:
            drawing.box(_at(begin), y, (end - begin) * MINUTE, 28, kind)
            drawing.text(_at(begin) + 8, y + 18, words, "small")
    _axis(drawing, 256)
    return drawing


def _reserve() -> Drawing:
    drawing = Drawing(760, 210, "Who may use how much of a tenant's 300 requests a minute")
    left, width = 250, 480
    drawing.text(left, 28, "a tenant's 300 requests a minute, over all of Asset's API", "small")
    rows = (
        ("Routine renewals", 80, "first", "to 80 %", "a fifth is left to your applications"),
        ("First tokens, renew now", 90, "first", "to 90 %", "a tenth is left"),
        ("Expired, or about to expire", 100, "second", "all of it", ""),
    )
    for number, (name, percent, kind, words, rest) in enumerate(rows):
        y = 44 + 48 * number
        drawing.text(16, y + 20, name, "bold")
        drawing.box(left, y, width, 30)
        drawing.box(left, y, width * percent / 100, 30, kind)
        drawing.text(left + 10, y + 20, words, "small")
        drawing.text(left + width * percent / 100 - 10, y + 20, rest, "small", "end")
    drawing.text(
        16, 196, "The nearest expiry goes first. --renewal-reserve and --issue-reserve change the shares.", "small"
    )
    return drawing


def main() -> None:
    """Write them anew."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in drawings():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
