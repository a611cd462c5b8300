"""`make reference`: writes what follows from the code: each field, each flag, the index of decisions, examples.

A test holds every one of them against what it is made of.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import yaml

from asset_token_operator.__main__ import run
from website.figures import with_sizes
from website.pages import DOCS, ROOT

CRD: Final = ROOT / "crds/auth.getasset.com_assettokens.yaml"
ADRS: Final = ROOT / DOCS / "adr"
EXAMPLE: Final = re.compile(r"(<!-- (examples/[\w./-]+)(?: (\w+))? -->\n```(\w+)\n)(.*?)(```\n)", re.DOTALL)
STATUS: Final = re.compile(r"^\*(?P<status>[^,*]+), (?P<date>\d{4}-\d\d-\d\d)\.\*$", re.MULTILINE)
MADE: Final = "<!-- Made by `make reference`. -->\n"

Json = dict[str, Any]


def main() -> None:
    """Write all of them anew."""
    for path, text in made().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def made() -> dict[Path, str]:
    """Each page as it has to be: it is made, or parts of it may be."""
    texts = {path: path.read_text() for path in [*(ROOT / DOCS).rglob("*.md"), ROOT / "README.md"]}
    whole = {
        ROOT / DOCS / "reference/assettoken.md": asset_token(),
        ROOT / DOCS / "reference/command-line.md": command_line(),
        ADRS / "index.md": decisions(),
    }
    return {path: with_sizes(with_examples(text)) for path, text in texts.items()} | whole


def with_examples(text: str) -> str:
    """A page with its examples as they are in examples/; where a part is named, what lies between its marks."""
    return EXAMPLE.sub(lambda found: found[1] + _example(ROOT / found[2], found[3]) + found[6], text)


def _example(path: Path, part: str | None) -> str:
    text = path.read_text()
    if part is None:
        return text
    (shown,) = re.findall(rf"^[^\n]*begin: {part}\n(.*?)^[^\n]*end: {part}\n", text, re.DOTALL | re.MULTILINE)
    return f"{shown.rstrip()}\n"  # as formatters leave it


def asset_token() -> str:
    """Every field of the CRD: what it means, its limits, its default, and what is said when it is refused."""
    crd = yaml.safe_load(CRD.read_text())
    version = crd["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    kind = crd["spec"]["names"]["kind"]
    head = (
        f"# {kind}\n\n{MADE}\n{_flat(schema['description'])}\n\n"
        f"`apiVersion: {crd['spec']['group']}/{version['name']}`, `kind: {kind}`, in a namespace. "
        f"Short name `{'`, `'.join(crd['spec']['names']['shortNames'])}`.\n\n"
        "Validation is in the CRD: a bad manifest is refused by `kubectl apply` with one of the sentences below, and "
        "there is no webhook to run. `kubectl explain assettoken.spec.lifetime` has the same descriptions.\n"
    )
    rules = "".join(_rules(schema))
    fields = "".join(_fields(schema["properties"], "", set(schema.get("required", ()))))
    return f"{head}{rules}\n{fields}{_columns(version['additionalPrinterColumns'])}"


def _fields(properties: Json, above: str, required: set[str]) -> Iterator[str]:
    for name, field in properties.items():
        path = f"{above}{name}"
        if path in ("apiVersion", "kind", "metadata"):
            continue
        depth = "##" if "." not in path else "###"
        facts = ", ".join(_facts(field, required=name in required))
        yield f"{depth} `{path}`\n\n*{facts}.* {_described(field)}\n" + "".join(_rules(field)) + "\n"
        inner = field.get("items", field)
        yield from _fields(inner.get("properties", {}), f"{path}.", set(inner.get("required", ())))


def _described(field: Json) -> str:
    """What a field is, and what each item of a list is."""
    return " ".join(_flat(part["description"]) for part in (field, field.get("items", {})) if "description" in part)


def _facts(field: Json, *, required: bool) -> Iterator[str]:
    yield _kind(field)
    if "enum" in field:
        yield "one of " + ", ".join(f"`{value}`" for value in field["enum"])
    limits = {
        "maxLength": "at most {} characters",
        "minimum": "at least {}",
        "maxItems": "at most {} items",
        "maxProperties": "at most {} entries",
    }
    yield from (words.format(f"{field[key]:,}") for key, words in limits.items() if key in field)
    if required:
        yield "required"
    if field.get("default") not in (None, {}):
        yield f"default `{_scalar(field['default'])}`"


def _kind(field: Json) -> str:
    match field["type"], field.get("x-kubernetes-list-type"):
        case "array", "set":
            return f"set of {_kind(field['items'])}s"
        case "array", _:
            return f"list of {_kind(field['items'])}s"
        case "object", _ if "additionalProperties" in field:
            return f"map of {_kind(field['additionalProperties'])}s"
        case "string", _ if field.get("format") == "date-time":
            return "time"
        case kind, _:
            return str(kind)


def _rules(field: Json) -> Iterator[str]:
    """The sentences that the API server says; a list's items and a map's values are told of with it."""
    parts = [field, field.get("items", {}), field.get("additionalProperties", {})]
    messages = [_flat(rule["message"]) for part in parts for rule in part.get("x-kubernetes-validations", ())]
    if "properties" in field.get("items", {}):
        messages = [_flat(rule["message"]) for rule in field.get("x-kubernetes-validations", ())]
    if messages:
        yield "\nRefused with:\n\n" + "".join(f"- {_escaped(message)}\n" for message in messages)


def _columns(columns: list[Json]) -> str:
    rows = [
        f"| {column['name']} | `kubectl get{' --output=wide' if column.get('priority') else ''}` "
        f"| {_flat(column['description'])} |\n"
        for column in columns
    ]
    return "## What `kubectl get` shows\n\n| column | shown by | meaning |\n| --- | --- | --- |\n" + "".join(rows)


def command_line() -> str:
    """Every flag of `asset-token-operator run`, from its own help."""
    rows = [
        f"| `{_flag(option)}` | `{option.envvar}` | {_escaped(_help(option))} | {_default(option)} |\n"
        for option in run.params
        if isinstance(option, click.Option)
    ]
    return (
        f"# Command line\n\n{MADE}\n`asset-token-operator run` runs the operator: {_first_sentence(run.help or '')}. "
        "Each flag has an environment variable; a flag outranks it. The chart sets most of them by its "
        "[values](../../deploy/chart/README.md), and takes any by `extraArgs`.\n\n"
        "| flag | variable | meaning | default |\n| --- | --- | --- | --- |\n" + "".join(rows) + "\n"
        "It also reads `KUBECONFIG`, and the usual variables for proxies ([how](../how-to/proxies-and-cas.md)). "
        "SIGTERM ends it in order, with exit code 0. `--help` shows the same, `--version` which one it is.\n"
    )


def _flag(option: click.Option) -> str:
    names = "/".join([*option.opts, *option.secondary_opts])
    metavar = option.metavar or ("" if option.is_flag else "|".join(getattr(option.type, "choices", ())))
    return f"{names} {metavar}".strip().replace("|", r"\|")


def _help(option: click.Option) -> str:
    return re.sub(r" Default: [^.]*\.$", "", option.help or "")


def _default(option: click.Option) -> str:
    if said := re.search(r" Default: ([^.]*(?:\.[^ ][^.]*)*)\.$", option.help or ""):
        return said[1]
    if option.default in (None, ()) or str(option.default).startswith("Sentinel"):
        return ""
    return ("on" if option.default else "off") if option.is_flag else f"`{option.default}`"


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(": ")[2].rstrip(".")


def decisions() -> str:
    """The index of the decision records: status and date, as each of them says."""
    rows = []
    for path in sorted(ADRS.glob("0*.md")):
        text = path.read_text()
        title = text.partition("\n")[0].removeprefix("# ")
        found = STATUS.search(text)
        if found is None:
            raise ValueError(f"{path.name} says no status and date, as in *Accepted, 2026-11-24.*")
        number, _, name = title.partition(". ")
        rows.append(f"| {number} | [{name}]({path.name}) | {found['status']} | {found['date']} |\n")
    return (
        f"# Decisions\n\n{MADE}\nWhy it is as it is, where that isn't obvious; each on a page. How the parts work "
        "together: [Architecture](../../ARCHITECTURE.md).\n\n"
        "| | decision | status | date |\n| --- | --- | --- | --- |\n" + "".join(rows)
    )


def _flat(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return _flat(text).replace("|", r"\|").replace("<", "&lt;")


def _scalar(value: Any) -> str:  # noqa: ANN401 - any of YAML
    return yaml.safe_dump(value, default_flow_style=True).partition("\n...")[0].strip()


if __name__ == "__main__":
    main()
