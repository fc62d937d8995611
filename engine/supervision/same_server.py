"""Whether source and target are the same data under two names. Pure."""

from __future__ import annotations

from engine.endpoint import Endpoint
from engine.errors import TargetRefused
from engine.source.facts import SourceFacts
from engine.target.capabilities import Capabilities


def refuse_same_server(source: SourceFacts, address: Endpoint, target: Capabilities) -> None:
    """Refuse a target whose writes would come back in the source's stream.

    Raises:
        TargetRefused: it is the source itself, its primary or its replica.
    """
    if source.run_id and source.run_id == target.run_id:
        what = "is the source itself under another name"
    elif source.replid and source.replid == target.replid:
        what = "belongs to the same replication group as the source"
    else:
        return
    raise TargetRefused(
        f"the target {address.address} {what}", hint="give another server as target"
    )
