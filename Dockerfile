# The image of a node. One file for both worlds: a public base and the package index by default; a base of one's own
# (--build-arg BASE=...) and a folder `wheelhouse` with all wheels where there is no way out. Every wheel has its hash.
# Nothing here needs more than the classic builder, so it builds wherever `docker build` does.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
# `wheelhouse*`: the folder may be absent. What is in it lands beside the locks.
COPY requirements.lock build.lock wheelhouse* /wheels/
RUN set -e; \
    if ls /wheels/*.whl >/dev/null 2>&1; then export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels; fi; \
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore; \
    python3 -m venv /opt/build; \
    python3 -m venv --without-pip /opt/app; \
    /opt/build/bin/pip install -q --no-compile --require-hashes --only-binary=:all: -r /wheels/build.lock; \
    /opt/build/bin/pip --python /opt/app/bin/python install -q --no-compile --require-hashes --only-binary=:all: \
        -r /wheels/requirements.lock
COPY pyproject.toml README.md LICENSE requirements.lock build.lock hatch_build.py /src/
COPY node /src/node
COPY sync /src/sync
COPY tls /src/tls
COPY keys /src/keys
# Compiled here, since the root of a running node is read-only. The folders are here so that a volume which is mounted
# on one of them begins as the program's own: the engine copies owner and mode of what it covers.
# Compiled code names its source's hash, and every file has the commit's time, so that two builds give the same layers.
ARG SOURCE_DATE_EPOCH=0
RUN set -e; \
    /opt/build/bin/pip wheel -q --no-index --no-deps --no-build-isolation -w /dist /src; \
    /opt/build/bin/pip --python /opt/app/bin/python install -q --no-index --no-deps --no-compile /dist/*.whl; \
    /opt/app/bin/python -m compileall -q -f --invalidation-mode unchecked-hash /opt/app/lib; \
    for name in node data mesh/ca mesh/a/data mesh/b/data mesh/c/data mesh/stranger/data; do mkdir -p /root-of-data/$name; done; \
    chmod 0700 /root-of-data/node /root-of-data/data /root-of-data/mesh/* /root-of-data/mesh/*/data; \
    python3 -c 'import os, sys; t = int(sys.argv[1]); [os.utime(os.path.join(d, n), (t, t), follow_symlinks=False) for root in ("/opt/app", "/root-of-data") for d, ds, fs in os.walk(root) for n in (".", *ds, *fs)]' "$SOURCE_DATE_EPOCH"

FROM ${BASE}
COPY --from=build /opt/app /opt/app
COPY --from=build --chown=10001:10001 /root-of-data/ /
ENV PATH=/opt/app/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    AI_MEMORY_HOME=/node \
    AI_MEMORY_STORE_PATH=/data/store.db
# By number, so that it needs no entry in any file, and an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 9443
# Not the program: to import it takes longer than a check may on a busy machine.
HEALTHCHECK --interval=5s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python3", "-SEIc", "import socket as s, sys; c = s.create_connection(('127.0.0.1', 9077), 3); c.sendall(b'GET /api/v1/health HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n'); sys.exit(b' 200 ' not in c.recv(64))"]
ENTRYPOINT ["ai-memory"]
CMD ["serve"]
