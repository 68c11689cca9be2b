"""What keeping files in Cloudflare R2 costs, by its published prices.

Source: https://developers.cloudflare.com/r2/pricing/ (standard storage), as of August 2026; Cloudflare may change them.
Writes are its class A operations (put, list, each part of a large file), reads its class B; reading out and deleting
are free of charge.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

READ_IN = "August 2026"


@dataclass(frozen=True)
class Prices:
    """Prices in US dollars; a GB is 10^9 bytes, and what is free is free each month for a whole account."""

    gb_month: float = 0.015
    million_writes: float = 4.50
    million_reads: float = 0.36
    free_gb_months: float = 10.0
    free_writes: int = 1_000_000
    free_reads: int = 10_000_000


R2 = Prices()


@dataclass(frozen=True)
class Usage:
    """What a push asks for: `files`, their `size` in bytes, and write and read operations."""

    files: int
    size: int
    writes: int
    reads: int

    def monthly(self, prices: Prices = R2) -> float:
        """Dollars a month for keeping it, after what is free."""
        return max(0.0, self.size / 1e9 - prices.free_gb_months) * prices.gb_month

    def once(self, prices: Prices = R2) -> float:
        """Dollars for sending it, after what is free."""
        writes = max(0, self.writes - prices.free_writes) * prices.million_writes
        return (writes + max(0, self.reads - prices.free_reads) * prices.million_reads) / 1e6


def push_usage(sizes: Iterable[int], *, part_bytes: int) -> Usage:
    """What a first push of files of these sizes in bytes asks for, with parts of `part_bytes`.

    Example: `push_usage([5_000, 40_000_000], part_bytes=16 << 20)` has 8 writes: one for the small file, three parts
    and their beginning and end for the large one, one list, and the manifest.
    """
    sizes = list(sizes)
    parts = [-(-size // part_bytes) + 2 if size >= part_bytes else 1 for size in sizes]
    return Usage(files=len(sizes), size=sum(sizes), writes=sum(parts) + 2, reads=1)


def cost_line(usage: Usage, prices: Prices = R2) -> str:
    """One sentence for the user."""
    amount = f"{usage.files:,} files, {usage.size / 1e9:.2f} GB, {usage.writes:,} writes"
    free = f"{prices.free_gb_months:g} GB and {prices.free_writes / 1e6:g} million writes a month are free"
    bill = f"${usage.monthly(prices):.2f} a month and ${usage.once(prices):.2f} once" if _costs(usage, prices) else "$0"
    return f"{amount}: {bill} at R2's prices of {READ_IN}, if nothing else is in the account ({free})."


def _costs(usage: Usage, prices: Prices) -> bool:
    return usage.monthly(prices) + usage.once(prices) > 0
