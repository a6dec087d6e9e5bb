"""What a journalled record costs a node, in SQLite and in Redis: processor time of our process, µs a record.

    python -m bench.micro.journal

Batches of 5,000 records of 400 bytes over 50,000 keys, 200,000 in all, as the scribe hands them over. SQLite's time is
spent in a thread of its own, mostly outside the interpreter's lock; that of Redis in the reactor. The third line is
what was rejected: one HSET a record in a pipeline, through the same protocol.
"""

from __future__ import annotations

import socket
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList

from farm.overlay.journal import Batch, Journal
from farm.overlay.redis_journal import RedisJournal, Server, make_dial
from farm.overlay.store import Row
from tests.support.processes import Program, wait_until

RECORDS = 200_000
KEYS = 50_000
BATCH = 5_000
RECORD = b"r" * 400


def make_batches() -> list[Batch]:
    """All that is written."""
    rows = [Row("registration", b"sip:user%d@example.com" % (number % KEYS), RECORD) for number in range(RECORDS)]
    return [Batch(rows[start : start + BATCH], 1.0, 2.0) for start in range(0, RECORDS, BATCH)]


def report(name: str, used: float) -> None:
    """One line."""
    print(f"{name:24} {used / RECORDS * 1e6:6.2f} µs a record")


def measure_sqlite(directory: Path, batches: list[Batch]) -> None:
    """As it is written in the thread."""
    journal = Journal(str(directory / "journal.sqlite"))
    journal.open()
    started = time.process_time()
    for batch in batches:
        journal.write(batch)
    report("SQLite", time.process_time() - started)
    journal.close()


async def measure_redis(port: int, batches: list[Batch]) -> None:
    """As it is written in the reactor."""
    dial = make_dial(reactor, 5.0)
    server = Server(("127.0.0.1", port))
    journal = RedisJournal(
        server, dial, reactor, prefix="bench", token="t", run="r", timeout_seconds=5.0, observe=lambda _: None
    )
    await journal.replay(("registration",), lambda _: None)
    started = time.process_time()
    for batch in batches:
        written: Deferred[BaseException | None] = Deferred()
        journal.write(batch, lambda _, error, written=written: written.callback(error))  # type: ignore[misc]
        error = await written
        if error is not None:
            raise error
    report("Redis", time.process_time() - started)
    started = time.process_time()
    seen: list[Any] = []
    await journal.replay(("registration",), seen.extend)
    used = time.process_time() - started
    print(f"{'Redis, reading':24} {used / len(seen) * 1e6:6.2f} µs a record")
    await journal.close()
    connection = await dial("127.0.0.1", port)
    started = time.process_time()
    for batch in batches:
        asked = [connection.ask((b"HSET", b"rejected", row.key, row.record)) for row in batch.rows]
        await DeferredList(asked, fireOnOneErrback=True)
    report("Redis, a command each", time.process_time() - started)
    connection.close()


def main() -> None:
    """Run all three."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        batches = make_batches()
        measure_sqlite(directory, batches)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = ("redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", name)
        redis = Program(command, directory / "redis.log")
        try:
            wait_until(lambda: "Ready to accept" in redis.output(), 10, "Redis is ready")
            run: Any = reactor
            failures: list[Any] = []

            def start() -> None:
                done = Deferred.fromCoroutine(measure_redis(port, batches))
                done.addErrback(failures.append).addBoth(lambda _: run.stop())

            run.callWhenRunning(start)
            run.run()
            for failure in failures:
                failure.raiseException()
        finally:
            redis.kill()


if __name__ == "__main__":
    main()
