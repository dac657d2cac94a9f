"""What a person runs: store, listeners, replication and the command line."""

import sys

if sys.platform == "win32":  # no `fcntl`: before anything asks for it in a traceback
    sys.stderr.write("ai-memory does not run on Windows; it runs in WSL 2, on a disk of Linux: see docs/platforms.md\n")
    raise SystemExit(2)
