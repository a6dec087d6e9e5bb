"""Overviews of made-up farms, as a node answers them (docs/status.md)."""

from __future__ import annotations

from typing import Any


def make_row(number: int, of: int = 4, **changes: Any) -> dict[str, Any]:
    """A member, evenly spread over the ring; the first is the node itself."""
    row = {
        "name": f"n{number}",
        "node_id": f"{(1 << 256) * (number - 1) // of:064x}",
        "zone": "",
        "roles": ["edge", "store"],
        "state": "alive",
        "since": 100.0 * number,
        "rtt": None if number == 1 else 0.0004,
        "load": 0,
        "draining": False,
        "self": number == 1,
    }
    return {**row, **changes}


def make_overview(rows: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    """The overview of a farm with these members, of one alone when there are none. All is well unless changed."""
    rows = [make_row(number) for number in range(1, 5)] if rows is None else rows
    counts = {state: sum(row["state"] == state for row in rows) for state in _STATES} if rows else {}
    overview = {
        "name": "n1",
        "version": "0.1.0",
        "uptime": 7385,
        "ready": True,
        "problems": [],
        "draining": False,
        "overlay": "farm.example.com" if rows else "",
        "node_id": rows[0]["node_id"] if rows else "",
        "state": "alive" if rows else "alone",
        "synchronised": True,
        "progress": 1.0,
        "handed_over": 1.0,
        "member_counts": counts,
        "members": rows,
        "replicas": {"wanted": 3, "possible": 3} if rows else {"wanted": 1, "possible": 1},
        "underreplicated": {"1": 0, "2": 0, "more": 0},
        "partitions": {"all": 4096, "owned": 4096, "cells": "0" * 512 if rows else ""},
        "rates": {"registrations_per_second": 12.25, "calls_per_second": 3.0, "requests_per_second": 1234.5},
        "registrations": 41_523,
        "calls": 187,
        "ringing": 12,
        "transactions": 431,
        "history": make_history(),
    }
    return {**overview, **changes}


def make_history(**changes: Any) -> dict[str, Any]:
    """An hour of which nothing has been seen."""
    history: dict[str, Any] = {
        "seconds_each": 10.0,
        "churn": [],
        "lookup_p50": [],
        "lookup_p99": [],
        "read_p50": [],
        "read_p99": [],
        "calls": [],
        "registrations": [],
    }
    return {**history, **changes}


_STATES = ("joining", "alive", "suspect", "dead", "left")
