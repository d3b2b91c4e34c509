"""docs/glossary.md and CONTRIBUTING.md name files and classes that there are, and no word twice."""

import re
from collections import Counter
from pathlib import Path

import mrq

ROOT = Path(mrq.__file__).parent
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT.parent / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| word |")
]


def test_every_word_is_told_once_with_its_place_in_the_code():
    words = Counter(word for left, _, _ in ROWS for word in left.split(", "))
    assert len(words) > 80
    assert [word for word, count in words.items() if count > 1] == []
    assert [left for left, told, place in ROWS if not told or not place] == []


def test_what_it_names_in_the_code_is_there():
    missing = []
    for word, _, place in ROWS:
        text = ""
        for name in re.findall(r"`([^`]+)`", place):
            if name.endswith(".py"):
                path = ROOT / name
                text = path.read_text(encoding="utf-8") if path.exists() else ""
                found = bool(text)
            else:
                found = re.search(rf"^(class {name}\b|{name}\b.* = )", text, re.MULTILINE) is not None
            if not found:
                missing.append((word, name))
    assert missing == []


def test_what_is_to_be_changed_is_where_contributing_says() -> None:
    text = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("## Where do I change")[2].partition("\n## ")[0]
    rows = [
        line
        for line in section.splitlines()
        if line.startswith("| ") and not line.startswith("| what | files")
    ]
    assert len(rows) == 11
    for row in rows:
        paths = re.findall(r"`((?:mrq|tests|docs)/[^`]*)`", row)
        assert [path for path in paths if not (ROOT.parent / path).exists()] == []
        sources = "".join((ROOT.parent / path).read_text("utf-8") for path in paths if path.endswith(".py"))
        names = re.findall(r"`(_?[A-Z][A-Za-z_]+)`", row)
        assert [name for name in names if not re.search(rf"^(class )?{name}\b", sources, re.MULTILINE)] == []
