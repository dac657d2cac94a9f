"""After every run: no file that any node wrote holds a memory in plain text."""

import disks
import pytest
import structlog
from marker import holding


@pytest.fixture(autouse=True)
def logs_of_every_level() -> None:
    """Also where a command that an earlier test ran in this process has said that it wants warnings alone."""
    structlog.reset_defaults()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look through everything that the run left behind, and fail it where the marker can be read."""
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory is None or factory._basetemp is None:
        return  # the run wrote no file
    if hasattr(session.config, "workerinput"):
        return  # one of several processes, which write below the folder of the one that began them: that one looks
    found = list(holding(factory._basetemp))
    if found:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        for path in found:
            reporter.write_line(f"PLAIN TEXT of a memory stands in {path}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def mounts() -> None:
    """For tests that mount a disk of their own, which takes Linux and root."""
    if reason := disks.obstacle():
        pytest.skip(reason)
