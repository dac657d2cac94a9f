"""One cluster for the whole run, from an engine that has no image of it, and nothing of it left afterwards."""

import os
import time
from collections.abc import Iterator

import pytest
from cluster import Cluster, docker


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes that paired themselves, each answering on its published port."""
    begun = time.monotonic()
    made = Cluster(tmp_path_factory.mktemp("cluster"), f"aimtest{os.getpid()}")
    try:
        made.prepare()
        assert docker("images", "-q", made.image) == ""
        made.choose_base()
        with made.timed("build"):
            made.compose("build", timeout=900)
        with made.timed("up"):
            made.up()
            for node in made.nodes:
                node.wait_up()
        made.agree()
        yield made
    finally:
        made.remove()
        made.timings["all"] = time.monotonic() - begun
        counts = ", ".join(f"{made.ledger.counts[name]} {name}" for name in ("acknowledged", "refused", "unanswered"))
        print(f"\nwrites: {counts}")
        print("seconds: " + ", ".join(f"{what} {seconds:.0f}" for what, seconds in made.timings.items()))


@pytest.fixture(autouse=True)
def agreement(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[None]:
    """Around every test: it begins and ends with nodes that agree, and with all that was acknowledged."""
    cluster.restore()
    with cluster.timed(request.node.name.removeprefix("test_")):
        yield
        cluster.agree()
