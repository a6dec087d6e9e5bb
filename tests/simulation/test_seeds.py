"""Two hundred fixed seeds of the simulator: nothing acknowledged is lost, nothing removed comes back, all heals.

What is demanded is in `tests/support/checker.py`, what goes wrong in `tests/support/faults.py`. A failure prints the
command that runs its seed again. `make simulate SEEDS=0-5000` runs more.

The seeds run beside each other on all processors, four seconds each, unless pytest-xdist does that.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from tests.support.faults import PLANS
from tests.support.simulate import Report, plan_of, run_seed

SEEDS = range(200)

Run = Callable[[int], Report]


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Answers a seed's report; all seeds that this session wants are begun at once."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        yield run_seed
        return
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    wanted = sorted({call.params["seed"] for call in calls if call is not None and "seed" in call.params})
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        futures: dict[int, Future[Report]] = {seed: pool.submit(run_seed, seed) for seed in wanted if seed in SEEDS}
        yield lambda seed: futures[seed].result()
        for future in futures.values():
            future.cancel()


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"{seed}-{plan_of(seed)}")
def test_a_seed_finds_nothing(seed: int, run: Run) -> None:
    report = run(seed)
    assert not report.problems, "\n".join([str(report), *report.problems[:5], report.command])
    # A farm without power serves nobody, and clients try again and again.
    assert report.served > (0.3 if report.plan == "power" else 0.6) * report.operations


@pytest.mark.parametrize("plan", PLANS)
def test_a_seed_does_the_same_each_time(plan: str) -> None:
    """Else no failure could be looked into."""
    first, second = (run_seed(7, plan, tracing=True, shortened=True) for _ in range(2))
    assert first.lines == second.lines
    assert first.frames == second.frames
    assert first.operations > 0
