"""The suite itself: tests/rules.md is what tests/run_lua.py makes of it."""

import subprocess
import sys

from harness import TESTS


def test_rules(h):
    """suite.rules: every clause of the contract has a test, every test a clause, and tests/rules.md is up to date"""
    run = subprocess.run([sys.executable, TESTS / "run_lua.py", "--rules"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout == (TESTS / "rules.md").read_text(), "tests/rules.md: python3 tests/run_lua.py --rules > tests/rules.md"
