"""`python -m node` is `ai-memory`."""

from node.cli import main

main(prog_name="ai-memory")
