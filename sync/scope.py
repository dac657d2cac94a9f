"""Which namespaces a peer may read or write: globs, default-deny when set (protocol section 8)."""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Self


@dataclass(frozen=True)
class Globs:
    """A set of namespace patterns: `*` is one segment, `**` any depth. No pattern at all allows nothing."""

    patterns: tuple[str, ...]

    @classmethod
    def everything(cls) -> Self:
        return cls(("**",))

    @cached_property
    def tag(self) -> str:
        """8 hex digits that differ where the rules differ; the order of the patterns is no difference."""
        return hashlib.sha256("\n".join(sorted(self.patterns)).encode()).hexdigest()[:8]

    def allows(self, namespace: str) -> bool:
        return "**" in self.patterns or _allows(self.patterns, namespace)

    @property
    def is_everything(self) -> bool:
        return "**" in self.patterns


@lru_cache(maxsize=4_096)
def _allows(patterns: tuple[str, ...], namespace: str) -> bool:
    return any(_compiled(pattern).fullmatch(namespace) for pattern in patterns)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    """`a/**` is `a` and all below it; `**` between segments is any number of them, none included."""
    expression = ""
    pattern = re.sub(r"(?<![^/])\*\*(?:/\*\*)+(?![^/])", "**", pattern)  # `**/**` says no more than `**`
    for index, segment in enumerate(pattern.split("/")):
        if segment == "**":
            expression += "(?:[^/]+(?:/[^/]+)*)?" if index == 0 else "(?:/[^/]+)*"
        else:
            literal = "[^/]*".join(re.escape(part) for part in segment.split("*"))
            if segment and not segment.strip("*"):  # nothing but stars
                literal = "[^/]+"
            expression += literal if index == 0 else f"/{literal}"
    if pattern.startswith("**/"):
        expression = expression.replace("(?:[^/]+(?:/[^/]+)*)?/", "(?:[^/]+/)*", 1)
    return re.compile(expression)
