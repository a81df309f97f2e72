"""What a customer wrote is shown as it is, and nothing in it can be pressed."""

import re

import pytest

from refunds.wording import escaped, quoted

# What GitHub's markdown, which Prefect's UI speaks, makes a link of although it was escaped.
_AUTOLINKS = (
    re.compile(r"(https?://|www(?=\.))[-.\w]+", re.IGNORECASE),
    re.compile(r"[-.\w+]+@[-\w]+(\.[-\w]+)+"),
)

HOSTILE = [
    "see https://evil.example/pay now",
    "see HTTP://EVIL.example",
    "www.evil.example",
    "WwW.evil.example",
    "write to ada@evil.example",
    "[press](http://evil.example) <http://evil.example> ![](https://evil.example/x.png)",
]


def rendered(markdown: str) -> str:
    """Text as a renderer has it once escapes are taken away."""
    return re.sub(r"\\(.)", r"\1", markdown)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_customer_wrote_becomes_a_link(text: str) -> None:
    for shown in (escaped(text), quoted(text)):
        assert not [found for pattern in _AUTOLINKS if (found := pattern.search(rendered(shown)))]


@pytest.mark.parametrize("text", [*HOSTILE, "a | b * c # d", "plain"])
def test_what_a_customer_wrote_is_shown_to_the_letter(text: str) -> None:
    assert rendered(escaped(text)).replace("\N{WORD JOINER}", "") == text
