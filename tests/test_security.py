"""SECURITY.md says nothing that no test holds: each of its sentences has a row in docs/security-proofs.md, and back."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
POLICY = ("Reporting a vulnerability", "Supported versions", "What is worth protecting")
"""Parts that promise what people do, or say what there is."""


def sentences(text: str) -> list[str]:
    """What a text says, sentence by sentence, rows of tables too. Titles of paragraphs are none."""
    found: list[str] = []
    part = ""
    for block in re.split(r"\n\s*\n", text):
        if block.startswith("#"):
            part = block.lstrip("# ")
        elif part and part not in POLICY and not text.startswith(f"# {part}"):
            rows = block.splitlines()[2:] if block.startswith("|") else re.split(r"\n(?=- )", block)
            for row in rows:
                plain = re.sub(r"\s+", " ", row.removeprefix("- ").strip("|").replace("**", "").replace(" | ", " — "))
                found += [one.strip() for one in re.split(r"(?<=\.) (?=[A-Z`])", plain)]
    return [one for one in found if one.strip("`") and one not in titles(text)]


def titles(text: str) -> set[str]:
    """What stands in bold at the beginning of a paragraph or an item, and is a sentence by its dot alone."""
    return set(re.findall(r"^(?:- )?\*\*([^*]+\.)\*\*", text, re.MULTILINE))


def rows(text: str) -> list[tuple[str, str]]:
    """Beginning and proof, row by row."""
    found = [re.fullmatch(r"\| (.+?) \| (.+) \|", line) for line in text.splitlines()]
    return [(one[1], one[2]) for one in found if one is not None and one[1] != "the sentence begins with"]


def faults(policy: str, proofs: str) -> list[str]:
    """Sentences without a row, rows without a sentence, rows without a proof."""
    said, known = sentences(policy), rows(proofs)
    wrong = [f"no row: {one}" for one in said if not any(one.startswith(begins) for begins, _ in known)]
    wrong += [f"no sentence: {begins}" for begins, _ in known if not any(one.startswith(begins) for one in said)]
    proven = re.compile(r"`tests/[\w/]+\.py(::\w+)?`|advice$|elsewhere: ")
    return wrong + [f"no proof: {begins}" for begins, proof in known if not proven.match(proof)]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_sentence_has_its_test() -> None:
    """And no row is idle. That the tests are there is looked at for all documents (`tests/test_docs.py`)."""
    policy = read("SECURITY.md")
    assert len(sentences(policy)) > 80
    assert faults(policy, read("docs/security-proofs.md")) == []


def test_a_sentence_that_nobody_holds_is_seen() -> None:
    """Control: one more sentence, one more item, one more row; and a row that says nothing."""
    policy, proofs = read("SECURITY.md"), read("docs/security-proofs.md")
    assert faults(policy.replace("**Input.** ", "**Input.** Nothing is ever wrong. "), proofs)
    assert faults(f"{policy}- And nobody else.\n", proofs)
    assert faults(policy.replace("| the network | nothing |", "| the network | nothing |\n| the wind | all |"), proofs)
    assert faults(policy, proofs + "\n| Nothing is ever wrong | advice |\n")
    assert faults(policy, proofs.replace("| Encrypt the swap | advice |", "| Encrypt the swap | of course |"))
