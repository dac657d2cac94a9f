"""Links of a foreign file: this version of the program keeps no links, so none is taken."""

from node.legacy.importing.source import LINK, Link, NotTaken


def take(link: Link) -> NotTaken:
    """What becomes of a link. Its ids are the file's: `row.record_id` says what they are here."""
    return NotTaken(
        LINK,
        "unsupported",
        "links come with a later version of this program; import the file again then",
        f"{link.source_id[:128]} {link.relation[:40]} {link.target_id[:128]}",
    )
