"""The option --address-map: announced addresses, and those that this machine reaches. Pure."""

from __future__ import annotations

_ADDRESS = r"[^\s,=]+"
ADDRESS_MAP = rf"^{_ADDRESS}={_ADDRESS}(,{_ADDRESS}={_ADDRESS})*$"


def read_address_map(text: str | None) -> tuple[tuple[str, str], ...]:
    """`announced=reachable` pairs with commas between, as ADDRESS_MAP allows; see Endpoint.address_map."""
    if text is None:
        return ()
    pairs = (it.partition("=") for it in text.split(","))
    return tuple((announced, reachable) for announced, _, reachable in pairs)
