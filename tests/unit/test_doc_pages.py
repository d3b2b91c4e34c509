"""What of docs/ is generated is what the code says."""

import pytest
from doc_pages import pages

from mrq.core.failures import CHARGES
from mrq.core.model import Status


@pytest.mark.parametrize("name", pages.PAGES)
def test_a_generated_page_is_as_the_code_has_it(name: str) -> None:
    text = (pages.DOCS / name).read_text(encoding="utf-8")
    assert pages.PAGES[name](text) == text, "run `make docs`, and commit what it changes"


def test_every_end_of_an_attempt_is_in_the_table_of_charges() -> None:
    for status in Status:
        assert f"| {status.value} | {CHARGES[status].account.value} |" in pages.charges()
