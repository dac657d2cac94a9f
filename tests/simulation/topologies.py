"""The meshes that histories are played in: names, and who pushes to or is pulled from by whom."""

from collections.abc import Sequence

BOTH = ("push", "pull")


def links(*pairs: str, by: Sequence[str] = BOTH) -> list[tuple[str, str, Sequence[str]]]:
    return [(pair[0], pair[1], by) for pair in pairs]


TOPOLOGIES = {
    "pair": ("AB", links("AB", "BA")),
    "pair, push only": ("AB", links("AB", "BA", by=("push",))),
    "pair, pull only": ("AB", links("AB", "BA", by=("pull",))),
    "chain": ("ABC", links("AB", "BA", "BC", "CB")),
    "chain, push only": ("ABC", links("AB", "BA", "BC", "CB", by=("push",))),
    "triangle": ("ABC", links("AB", "BA", "AC", "CA", "BC", "CB")),
    "one way round": ("ABC", links("AB", "BC", "CA", by=("push",))),
    "line of four": ("ABCD", links("AB", "BA", "BC", "CB", "CD", "DC")),
    "ring of four": ("ABCD", links("AB", "BC", "CD", "DA", "BA", "CB", "DC", "AD", by=("push",))),
    "star of four": ("ABCD", links("AB", "BA", "AC", "CA", "AD", "DA")),
    "mesh of four": ("ABCD", links(*(p + q for p in "ABCD" for q in "ABCD" if p != q), by=("push",))),
}
