"""Writes the table of the chart's values into its README: names, defaults and comments of values.yaml, and its schema.

The text around the table is the README's own.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

CHART: Final = Path(__file__).parent / "chart"
BEGIN: Final = "<!-- values: made by `make chart-readme` -->\n"
END: Final = "<!-- end of values -->\n"

Json = dict[str, Any]


class Value(NamedTuple):
    """A row of the table."""

    path: str
    kind: str
    default: str
    meaning: str


def main() -> None:
    """Write the README anew."""
    readme = CHART / "README.md"
    readme.write_text(with_table(readme.read_text()))


def with_table(readme: str) -> str:
    """The README with the table of the values as they are."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = [f"| `{value.path}` | {value.kind} | {value.default} | {value.meaning} |\n" for value in values()]
    return "".join(
        (before, BEGIN, "\n| value | type | default | meaning |\n| --- | --- | --- | --- |\n", *rows, "\n", END, after)
    )


def values() -> Iterator[Value]:
    """Each value that isn't made of others."""
    schema: Json = json.loads((CHART / "values.schema.json").read_text())
    text = (CHART / "values.yaml").read_text()
    root: Any = yaml.compose(text)
    yield from Table(text, schema["definitions"]).rows(schema, root)


class Table:
    """What values.yaml and its schema say of each value.

    Args:
        text: values.yaml.
        definitions: Of the schema.
    """

    def __init__(self, text: str, definitions: Json) -> None:
        self._lines = text.splitlines()
        self._definitions = definitions

    def rows(self, schema: Json, node: yaml.MappingNode, path: str = "", above: str = "") -> Iterator[Value]:
        """The rows of a mapping's values, all by default; what is said above it is said of those that say nothing."""
        for key, value in node.value:
            part = self._resolved(schema["properties"][key.value])
            said = _comment(self._lines, key.start_mark.line, key.start_mark.column) or above
            if "properties" in part:
                yield from self.rows(part, value, f"{path}{key.value}.", said)
            else:
                default = _default(yaml.safe_load(yaml.serialize(value)))
                yield Value(f"{path}{key.value}", self._kind(part), default, _meaning(said, part))

    def _kind(self, part: Json) -> str:
        """A value's type in words."""
        part = self._resolved(part)
        if "enum" in part:
            return "one of " + ", ".join(f"`{value}`" if value else "nothing" for value in part["enum"])
        kinds = part["type"] if isinstance(part["type"], list) else [part["type"]]
        if "array" in kinds:
            return f"list: {self._kind(part['items'])}"
        limits = {"from": part.get("minimum"), "to": part.get("maximum")}
        words = [_name(part) or kinds[0], *(f"{word} {limit}" for word, limit in limits.items() if limit is not None)]
        return " ".join([*words, "or nothing"] if "null" in kinds else words)

    def _resolved(self, part: Json) -> Json:
        """A part of the schema, also where it is only named."""
        name = part.get("$ref", "").rpartition("/")[2]
        resolved: Json = self._definitions[name] if name else part
        return resolved


def _comment(lines: list[str], line: int, column: int) -> str:
    """What stands above a key, in its column, and behind it; an example, which is indented, isn't told."""
    found: list[str] = []
    while line > 0 and re.match(rf" {{{column}}}#", lines[line - 1 - len(found)]):
        found.insert(0, lines[line - 1 - len(found)].strip().removeprefix("#"))
    words = [text.strip() for text in found if not text.startswith("  ")]
    _, mark, behind = lines[line].partition(" # ")
    return " ".join([*words, behind.strip()] if mark else words)


def _meaning(said: str, part: Json) -> str:
    """What a comment says, and the schema besides."""
    more = "" if _name(part) else part.get("description", "")
    sentences = [text[0].upper() + text[1:].rstrip(".") for text in (said, more) if text]
    return ". ".join(sentences).replace("|", r"\|")


def _name(part: Json) -> str:
    """The name of a type of Kubernetes', where the schema describes it by that alone."""
    match = re.fullmatch(r"An? (\w+)\.", part.get("description", ""))
    return match[1] if match else ""


def _default(value: Any) -> str:  # noqa: ANN401 - any of YAML
    if value in ("", None, [], {}):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


if __name__ == "__main__":
    main()
