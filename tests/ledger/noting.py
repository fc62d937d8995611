"""Names told to a ledger as the transcoders do."""

from __future__ import annotations

from engine.ledger.ledger import Ledger


def note(ledger: Ledger, *keys: bytes, db: int = 0) -> None:
    assert ledger.recorder is not None
    ledger.recorder.select(db)
    for key in keys:
        ledger.recorder.note_bytes(key)
