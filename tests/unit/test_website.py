"""The site is put together so that no link of a page is lost, and what follows from the code is as the code says.

`make docs` builds it, and follows each link of what was built.
"""

import re
from pathlib import Path

import pytest
import yaml

from tests.unit.test_docs import crd_schema
from website import checks, drawings, pages, reference, staging
from website.figures import with_sizes


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a page, and files around it."""
    for module in (pages, staging):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    files = {
        "docs/index.md": "# Home\n",
        "docs/adr/0001-one.md": "# 1. One\n\n*Accepted, 2026-11-24.*\n",
        "docs/adr/index.md": "# Decisions\n",
        "POLICY.md": "# Policy\n\n[home](docs/index.md)\n",
        "deploy/one.yaml": "kind: One\n",
        "deploy/README.md": "# Deploy\n",
        ".ci/run": "true\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("link", "on_the_site"),
    [
        pytest.param("[x](adr/0001-one.md#why)", "[x](adr/0001-one.md#why)", id="page"),
        pytest.param("[x](../POLICY.md)", "[x](POLICY.md)", id="page outside of docs"),
        pytest.param("[x](../deploy/one.yaml)", "[x](deploy/one.yaml.md)", id="file"),
        pytest.param("[x](../deploy/README.md)", "[x](deploy.md)", id="a folder's own page"),
        pytest.param("[x](../deploy)", "[x](deploy/index.md)", id="folder"),
        pytest.param("[x](../.ci/run)", "[x](ci/run.md)", id="hidden file"),
        pytest.param("[x](https://example.com/a.md)", "[x](https://example.com/a.md)", id="elsewhere"),
        pytest.param("[x](#below)", "[x](#below)", id="the same page"),
        pytest.param("```\n[x](../POLICY.md)\n```", "```\n[x](../POLICY.md)\n```", id="code"),
    ],
)
def test_links_lead_to_pages_of_the_site(repository: Path, link: str, on_the_site: str) -> None:
    (repository / "docs/index.md").write_text(f"{link}\n")
    assert pages.for_the_site("docs/index.md") == f"{on_the_site}\n"


def test_links_of_pages_outside_of_docs_lead_back(repository: Path) -> None:
    assert "[home](index.md)" in pages.for_the_site("POLICY.md")


def test_what_is_linked_is_on_the_site_and_what_that_links_to(repository: Path) -> None:
    (repository / "docs/index.md").write_text("[x](../POLICY.md)\n")
    (repository / "POLICY.md").write_text("[y](deploy)\n")
    assert {"POLICY.md", "deploy", "deploy/one.yaml"} <= staging.everything()
    assert ".ci/run" not in staging.everything()


def test_a_file_is_shown_as_it_is_and_a_folder_by_its_files(repository: Path) -> None:
    assert "````yaml\nkind: One\n````" in pages.for_the_site("deploy/one.yaml")
    assert "[`one.yaml`](one.yaml.md)" in pages.for_the_site("deploy")


def test_a_link_that_leads_nowhere_is_named(repository: Path) -> None:
    (repository / "docs/index.md").write_text("[x](gone.md)\n")
    with pytest.raises(pages.BrokenLinkError, match=r"docs/index\.md links to gone\.md"):
        staging.everything()


def test_a_page_that_is_in_no_section_is_named(repository: Path) -> None:
    (repository / "docs/lost.md").write_text("# Lost\n")
    with pytest.raises(staging.NotInNavigationError, match=r"lost\.md"):
        staging.configuration()


def test_a_drawing_is_two_on_the_site_as_its_switch_decides(repository: Path, tmp_path: Path) -> None:
    (repository / "docs/a.svg").write_text("<style>\n.a {}\n@media (prefers-color-scheme: dark) {\n .b {}\n}\n</style>")
    (repository / "docs/plain.svg").write_text("<style></style>")
    (repository / "docs/index.md").write_text("![A](a.svg)\n\n![Plain](plain.svg)\n")
    assert (
        staging.for_both_switches("docs/index.md")
        == "![A](a.light.svg#only-light)\n![A](a.dark.svg#only-dark)\n\n![Plain](plain.svg)\n"
    )
    staging.put_picture(repository / "docs/a.svg", tmp_path / "a.svg")
    assert ".b {}" not in (tmp_path / "a.light.svg").read_text()
    dark = (tmp_path / "a.dark.svg").read_text()
    assert ".b {}" in dark
    assert "@media" not in dark


def test_links_of_what_was_built_are_followed(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<a id="top" href="sub/#here">x</a><img src="a.png"><a href="https://x.y/">z</a>'
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/index.html").write_text('<h1 id="here">x</h1><a href="../#top">up</a><a href="#gone">no</a>')
    assert checks.broken_links(tmp_path) == ["index.html: a.png", "sub/index.html: #gone"]


def test_the_readmes_links_lead_somewhere() -> None:
    assert list(pages.linked("README.md"))


def test_sizes_are_those_that_were_measured(tmp_path: Path) -> None:
    figures = tmp_path / "performance.md"
    figures.write_text(
        "### `base`\n\n|  |  |\n| --- | ---: |\n| /readyz s | 1.93 |\n| own CPU s | 1.79 |\n| RSS MiB | 86 |\n"
        "| token requests | 0 |\n\n### `restart`\n\n|  | N = 1,000 |\n| --- | ---: |\n| /readyz s | 4.20 |\n"
        "| own CPU s | 3.90 |\n| RSS MiB | 1,104 |\n| token requests | 0 |\n"
    )
    page = with_sizes("<!-- sizes -->\nold\n<!-- end of sizes -->\n", figures)
    assert "| none | 86 MiB | 1.9 s | 1.8 s | 0 |" in page
    assert "| 1,000 | 1104 MiB | 4.2 s | 3.9 s | 0 |" in page
    assert "old" not in page


@pytest.mark.parametrize(
    ("measured", "form", "told_by"),
    [
        pytest.param(
            "600 tokens against 300/min fixed, no reserve: all issued",
            "{:.0f} s",
            ["README.md", "docs/faq.md"],
            id="600",
        ),
        pytest.param(
            "600 s down, 100 renewals due: all renewed after the return",
            "{:.1f} s",
            ["docs/faq.md", "docs/operations.md"],
            id="outage",
        ),
        pytest.param(
            "wrong for 300 s, 100 tokens: all written after the correction",
            "{:.1f} s",
            ["docs/faq.md"],
            id="credentials",
        ),
    ],
)
def test_figures_that_are_told_elsewhere_are_those_of_the_fault_suite(
    measured: str, form: str, told_by: list[str]
) -> None:
    (seconds,) = re.findall(rf"\| {re.escape(measured)} \| ([\d.]+) s", (pages.ROOT / "docs/faults.md").read_text())
    assert [name for name in told_by if form.format(float(seconds)) not in (pages.ROOT / name).read_text()] == []


def test_every_page_of_docs_is_in_a_section() -> None:
    assert staging.configuration()


def test_what_follows_from_the_code_is_as_the_code_says() -> None:
    """Else: make reference."""
    assert [path.name for path, text in reference.made().items() if path.read_text() != text] == []


def test_the_drawings_are_as_the_script_draws_them() -> None:
    """Else: make drawings."""
    assert [name for name, text in drawings.drawings() if (drawings.FOLDER / name).read_text() != text] == []


def test_every_field_is_in_the_reference_and_no_other() -> None:
    shown = re.findall(r"^##+ `(spec\S*|status\S*)`$", reference.asset_token(), re.MULTILINE)
    schema = crd_schema()
    fields = {path for name in ("spec", "status") for path in item_paths(schema["properties"][name], f"{name}.")}
    assert set(shown) == {"spec", "status"} | fields
    assert len(shown) == len(set(shown))


def item_paths(schema: dict[str, object], path: str) -> set[str]:
    """Every field, with those of lists' items."""
    found = set()
    inner = schema.get("items", schema)
    assert isinstance(inner, dict)
    for name, field in inner.get("properties", {}).items():
        found |= {f"{path}{name}"} | item_paths(field, f"{path}{name}.")
    return found


def test_every_sentence_of_a_refusal_and_every_description_is_in_the_reference() -> None:
    text = reference.asset_token().replace("&lt;", "<")
    crd = yaml.safe_load(reference.CRD.read_text())
    said = list(sentences(crd["spec"]["versions"][0]))
    assert len(said) > 50
    assert [sentence for sentence in said if " ".join(sentence.split()) not in text] == []


def sentences(part: object) -> list[str]:
    if isinstance(part, list):
        return [sentence for item in part for sentence in sentences(item)]
    if not isinstance(part, dict):
        return []
    own = [value for key, value in part.items() if key in ("message", "description") and isinstance(value, str)]
    return own + [sentence for value in part.values() for sentence in sentences(value)]
