"""The table of findings says what was found."""

from tests.faults.findings import Finding, Guarantee, at_least, at_most, exactly, markdown, told

FINDINGS = [
    at_most(Guarantee.CAUSE, "took a|b", 5.125, 5, "s").of("outage"),
    exactly(Guarantee.BUDGET, "429", 0).of("steady"),
    at_least(Guarantee.BUDGET, "renewals", 7, 8).of("steady"),
    told(Guarantee.BUDGET, "quiet", 1.5, "s").of("peer"),
    Finding(None, "broke off", "why", "", held=False).of("kill"),
]


def test_findings_are_written_as_markdown_with_the_guarantee_that_each_is_about() -> None:
    assert markdown(FINDINGS).splitlines() == [
        "| scenario | guarantee | what was measured | figure | the bound | held? |",
        "| --- | --- | --- | --- | --- | --- |",
        r"| outage | fixing the cause is enough | took a\|b | 5.12 s | ≤ 5 s | NO |",
        "| steady | the tenant's budget | 429 | 0 | 0 | yes |",
        "| steady | the tenant's budget | renewals | 7 | ≥ 8 | NO |",
        "| peer | the tenant's budget | quiet | 1.5 s |  |  |",
        "| kill |  | broke off | why |  | NO |",
    ]
