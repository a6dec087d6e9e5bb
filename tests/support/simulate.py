"""Runs seeds of the simulator: `python -m tests.support.simulate 0-5000`, or one with `--trace`.

A seed says everything: which scenario (by its remainder, unless `--plan` names one), how many nodes, what goes wrong
when, what each client does. A failing seed is printed with the command that runs it again, which does exactly the same.

Found with it so far: the table at the end of `docs/simulation.md`.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from farm.admin.progress import show_progress
from farm.overlay.settings import NodeSettings
from tests.support.checker import Checker
from tests.support.faults import PLANS, WARM_SECONDS, Faults, Plan
from tests.support.overlays import Overlay
from tests.support.workload import PATIENCE_SECONDS, Workload

LOADED_SECONDS = 10.0  # after the last fault
SHORT_SECONDS = 60.0
LET_GO_SECONDS = 180.0  # until copies are gone that were only kept for others


@dataclass
class Report:
    """What one seed came to. `problems` is empty when all was as it must be."""

    seed: int
    plan: str
    nodes: int = 0
    operations: int = 0
    served: int = 0
    simulated: float = 0.0
    seconds: float = 0.0
    frames: int = 0
    problems: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        verdict = f"FAILED {len(self.problems)}" if self.problems else "ok"
        return (
            f"seed {self.seed} {self.plan}: {verdict}; {self.nodes} nodes, {self.served}/{self.operations} served, "
            f"{self.frames} frames, {self.simulated:.0f} s in {self.seconds:.1f} s"
        )

    @property
    def command(self) -> str:
        """Runs it again."""
        return f"python -m tests.support.simulate {self.seed} --plan {self.plan} --trace"


def plan_of(seed: int) -> str:
    """The scenario of a seed."""
    return list(PLANS)[seed % len(PLANS)]


def run_seed(
    seed: int, plan_name: str = "", *, nodes: int = 0, tracing: bool = False, shortened: bool = False
) -> Report:
    """Simulate one seed and judge it; `shortened` leaves out most of it. Never raises."""
    plan_name = plan_name or plan_of(seed)
    rng = random.Random(f"{plan_name} {seed}")
    plan = PLANS[plan_name](rng)
    if nodes:
        plan.nodes = nodes
    if shortened:
        plan.events = [event for event in plan.events if event[0] < SHORT_SECONDS]
        plan.seconds = SHORT_SECONDS
    report = Report(seed, plan_name, plan.nodes)
    began = time.process_time()
    try:
        _simulate(seed, plan, rng, report, tracing)
    except Exception:
        report.problems.insert(0, traceback.format_exc())
    report.seconds = time.process_time() - began
    return report


def _simulate(seed: int, plan: Plan, rng: random.Random, report: Report, tracing: bool) -> None:
    overlay = Overlay(
        seed, plan.nodes, zones=plan.zones, path=plan.path, most_expires=plan.most_expires,
        settings=NodeSettings("simulated", replicas=plan.replicas),
    )  # fmt: skip
    overlay.tracing = tracing
    for station, offset in zip(overlay.stations, plan.offsets, strict=False):
        station.machine.wall_offset = offset
    checker = Checker(slack=plan.slack)
    faults = Faults(overlay, checker)
    workload = Workload(overlay, checker, rng, rate=plan.rate, lifetimes=plan.lifetimes)
    try:
        overlay.start()
        began = overlay.now
        workload.start()
        for at, event, arguments in plan.events:
            overlay.heap.callLater(at, event, faults, *arguments)
        overlay.run(plan.seconds + 0.001)
        faults.mend_all()
        mended = overlay.now
        _settle(overlay, workload, plan, report, mended)
        peace = [(began if plan.is_quiet else mended + plan.settle_seconds, float("inf"))]
        if not plan.is_quiet and not plan.path.loss and not any(abs(offset) > 1.0 for offset in plan.offsets):
            peace.append((began, began + WARM_SECONDS))
        _look_at_all(overlay, workload, checker)
        if max((abs(offset) for offset in plan.offsets), default=0.0) < 1.0:
            report.problems += checker.find_failures(peace)
        report.problems += overlay.find_leaks()
    finally:
        report.problems = checker.violations + report.problems
        report.nodes = len(overlay.stations)
        report.operations = len(checker.history)
        report.served = sum(operation.result == "ok" for operation in checker.history)
        report.simulated = overlay.now
        report.frames = overlay.fabric.frames
        if tracing:
            report.lines = overlay.lines + [str(operation) for operation in checker.history]


def _settle(overlay: Overlay, workload: Workload, plan: Plan, report: Report, mended: float) -> None:
    """Everything is mended: the load goes on for a moment, then all owners must be equal in time, and later the copies
    that nobody needs be gone."""
    overlay.run(LOADED_SECONDS)
    workload.stop()
    overlay.run(PATIENCE_SECONDS + 2.0)
    for strictly, seconds in ((False, plan.settle_seconds), (True, plan.settle_seconds + LET_GO_SECONDS)):

        def is_one(strictly: bool = strictly) -> bool:
            return overlay.is_synchronised() and not overlay.find_differences(strictly=strictly)

        if overlay.run_until(is_one, max(0.0, mended + seconds - overlay.now), step=1.0):
            continue
        state = overlay.describe()
        differences = overlay.find_differences(strictly=strictly)
        healed = overlay.run_until(is_one, 300.0, step=5.0)
        after = overlay.now - mended
        report.problems.append(
            f"not as one {seconds:.0f} s after the last fault, {'only' if healed else 'nor'} {after:.0f} s after: "
            f"{state}; {len(differences)} differences {differences[:3]}"
        )
    overlay.run(max(0.0, mended + plan.settle_seconds - overlay.now))


def _look_at_all(overlay: Overlay, workload: Workload, checker: Checker) -> None:
    """Every record through some node, and every copy."""
    stations = overlay.sound()
    waiting: list[None] = []
    for aor in workload.aors:
        waiting.append(None)
        workload.read(aor, workload.rng.choice(stations), lambda _: waiting.pop())
    overlay.run(PATIENCE_SECONDS + 1.0)
    assert not waiting
    workload.look_at_replicas()


def _parse_seeds(text: str) -> Iterator[int]:
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _run_quickly(job: tuple[int, str, int, bool]) -> Report:
    seed, plan, nodes, tracing = job
    gc.freeze()
    return run_seed(seed, plan, nodes=nodes, tracing=tracing)


def main(arguments: Iterable[str] | None = None) -> int:
    """Run the seeds named; answers how many failed, 1 at most."""
    parser = argparse.ArgumentParser(description="Run seeds of the overlay's simulator.")
    parser.add_argument("seeds", help="such as 7, 0-199 or 1,5,9")
    parser.add_argument("--plan", default="", choices=["", *PLANS], help="this scenario for every seed")
    parser.add_argument("--nodes", type=int, default=0, help="this many nodes at the start")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--trace", action="store_true", help="print what happened, too")
    parser.add_argument("--quick", action="store_true", help="stop at the first failure")
    options = parser.parse_args(None if arguments is None else list(arguments))
    jobs = [(seed, options.plan, options.nodes, options.trace) for seed in _parse_seeds(options.seeds)]
    failed: list[Report] = []
    ran = 0
    began = time.monotonic()
    with (
        ProcessPoolExecutor(min(options.jobs, len(jobs))) as pool,
        show_progress(sys.stderr, len(jobs), interval=max(len(jobs) // 10, 20)) as reach,
    ):
        for report in pool.map(_run_quickly, jobs) if len(jobs) > 1 else map(_run_quickly, jobs):
            ran += 1
            reach(ran, f"{ran} seeds, {len(failed)} failed")
            if report.problems or len(jobs) <= 40:
                print("\n".join([*report.lines, str(report)]), flush=True)
            for problem in report.problems[:5]:
                print(f"    {problem}")
            if report.problems:
                print(f"    {report.command}", flush=True)
                failed.append(report)
                if options.quick:
                    break
    print(f"{ran - len(failed)} of {ran} seeds ok in {time.monotonic() - began:.0f} s")
    for report in failed:
        print(f"  {report.command}")
    return min(1, len(failed))


if __name__ == "__main__":
    sys.exit(main())
