"""After every run: no file that any node wrote holds a memory in plain text."""

import pytest
from marker import holding


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look through everything that the run left behind, and fail it where the marker can be read."""
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory is None or factory._basetemp is None:
        return  # the run wrote no file
    found = list(holding(factory._basetemp))
    if found:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        for path in found:
            reporter.write_line(f"PLAIN TEXT of a memory stands in {path}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
