"""docs/glossary.md names files and classes that there are, and no word twice."""

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
