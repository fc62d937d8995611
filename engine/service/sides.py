"""Source and target of a task: from what the client names to an address that the engine can use."""

from __future__ import annotations

import asyncio
from pathlib import Path

from engine.endpoint import Endpoint, Role, TlsSettings
from engine.service.addresses import MANY_NODES, parse_addrs, show_addr
from engine.service.instances import INSTANCE_ID, Instances
from engine.service.orders import InstanceChoice
from engine.service.probe import Finding, probe
from engine.service.record import InstanceRecord, TlsFiles
from engine.service.refusals import BadParameter, PasswordRefused
from engine.service.sealing import Seal


class Sides:
    """Knows the registered instances and the seal of the passwords. address_map: as of Endpoint, for all."""

    def __init__(
        self, instances: Instances, seal: Seal, *, address_map: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self.instances = instances
        self._seal = seal
        self._address_map = address_map

    def settle(self, project_id: str, role: Role, choice: InstanceChoice) -> InstanceRecord:
        """Make the record of one side. A registered id wins over addresses.

        Raises:
            InstanceUnknown, BadParameter: as the field's name says.
        """
        field = f"{role}_instance"
        if choice.id is not None:
            if not INSTANCE_ID.fullmatch(choice.id):
                raise BadParameter(f"{field}.id")
            found = self.instances.get(project_id, choice.id)
            addrs, name = found.addrs, found.name
            username, tls = found.username, found.tls
            password = found.password if choice.password is None else choice.password
        elif choice.addrs is not None:
            addrs, name, username, tls = choice.addrs, choice.name or "", None, None
            password = choice.password
        else:
            raise BadParameter(field, "it needs id or addrs")
        nodes = parse_addrs(addrs, name=f"{field}.addrs")
        return InstanceRecord(
            addrs=",".join(show_addr(*it) for it in nodes),
            id=choice.id,
            name=name,
            username=username,
            sealed_password=self._seal.close(password or None),
            tls=tls,
            db=choice.db or "0",
            proxy_multi_db=bool(choice.proxy_multi_db),
        )

    def endpoint(self, side: InstanceRecord) -> Endpoint:
        """The address and login of a side.

        Raises:
            ConfigError: its password was sealed with another key.
        """
        (host, port), *more = parse_addrs(side.addrs, name="addrs")
        return Endpoint(
            host=host,
            port=port,
            more=tuple(more),
            username=side.username,
            password=self._seal.open(side.sealed_password),
            tls=None if side.tls is None else _tls_settings(side.tls),
            address_map=self._address_map,
        )

    async def check(self, *roles: tuple[Role, InstanceRecord]) -> list[Finding]:
        """Log in to each side at once. A server that does not answer is no error here: the run will say so.

        Raises:
            PasswordRefused: a server answered and does not let us in.
            BadParameter: several nodes that are no cluster.
        """
        findings = await asyncio.gather(*(probe(self.endpoint(side)) for _, side in roles))
        for (role, side), finding in zip(roles, findings, strict=True):
            if finding.password_is_refused:
                raise PasswordRefused(f"{role}_instance")
            if "," in side.addrs and not finding.is_cluster and not finding.trouble:
                raise BadParameter(f"{role}_instance.addrs", MANY_NODES)
        return list(findings)


def _tls_settings(files: TlsFiles) -> TlsSettings:
    return TlsSettings(
        ca_file=_path(files.ca_file),
        cert_file=_path(files.cert_file),
        key_file=_path(files.key_file),
        verify=files.verify,
    )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
