"""Where sections and keys stand in the text of a configuration, which the parser does not tell."""

import re
from collections import Counter


class Places:
    """Of one text; `source` names it."""

    def __init__(self, text: str, source: str) -> None:
        self._source = source
        self._lines: dict[tuple[str, str | None], int] = {}
        section = ""
        repeated: Counter[str] = Counter()
        for number, line in enumerate(text.split("\n"), 1):
            header = re.match(r"\s*(\[{1,2})\s*[\"']?([^\]\s\"']+)[\"']?\s*\]", line)
            if header:
                section = header[2]
                if header[1] == "[[":
                    section = f"{header[2]}/{repeated[header[2]]}"
                    repeated[header[2]] += 1
                self._lines.setdefault((section, None), number)
            elif key := re.match(r"\s*(?:([A-Za-z0-9_-]+)\s*\.\s*)?[\"']?([A-Za-z0-9_-]+)[\"']?\s*=", line):
                self._lines.setdefault((section or key[1] or "", key[2]), number)

    def section(self, section: str) -> str:
        return self._at((section, None), (f"{section}/0", None), ("", section))

    def key(self, section: str, key: str) -> str:
        return self._at((section, key), (section, None), ("", section))

    def peer(self, index: int, key: str | None) -> str:
        return self._at((f"peer/{index}", key), (f"peer/{index}", None))

    def _at(self, *names: tuple[str, str | None]) -> str:
        line = next((self._lines[name] for name in names if name in self._lines), 1)
        return f"{self._source}:{line}"
