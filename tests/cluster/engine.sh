#!/usr/bin/env bash
# Says which container engine the tests will use, and starts it where it is installed and does not run; fails otherwise.
set -euo pipefail
answers() { docker info --format 'engine: {{.ServerVersion}}, {{.Driver}}, {{.NCPU}} processors' 2>/dev/null; }
command -v docker >/dev/null || { echo "no container engine: install Docker, with Compose, and run this again" >&2; exit 1; }
if ! answers; then
    echo "the engine does not answer; starting it"
    service docker start || true
    for _ in $(seq 30); do
        docker info >/dev/null 2>&1 && break
        sleep 1
    done
    answers || { echo "the engine does not answer: start it (service docker start), or get the right to use it, and run this again" >&2; exit 1; }
fi
docker compose version 2>/dev/null || docker-compose version --short 2>/dev/null || { echo "no Compose: install the plug-in of docker, or docker-compose" >&2; exit 1; }
command -v cc >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends gcc; }
