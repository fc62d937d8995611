"""Exchanging the addresses of source and target: done by the operator's own command or webhook."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

OUTPUT_LIMIT = 400  # characters of a command's output that an error shows


class ExchangeFailed(Exception):
    """The command or the webhook did not do it; its text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeHook:
    """What does the exchange. command: argv, gets the JSON order on its standard input, exit 0 means done.

    webhook: a URL, gets the order by POST, any 2xx means done. timeout_seconds: for either.
    """

    command: tuple[str, ...] = ()
    webhook: str | None = None
    timeout_seconds: float = 1800.0

    @property
    def is_there(self) -> bool:
        """Whether the operator has configured one."""
        return bool(self.command or self.webhook)

    async def carry_out(self, order: Mapping[str, Any]) -> None:
        """Run it and wait for its end.

        Raises:
            ExchangeFailed.
        """
        text = json.dumps(order)
        try:
            async with asyncio.timeout(self.timeout_seconds):
                if self.command:
                    await self._run_command(text)
                else:
                    await self._call_webhook(text)
        except TimeoutError:
            raise ExchangeFailed(f"no end within {self.timeout_seconds:g} s") from None

    async def _run_command(self, text: str) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            raise ExchangeFailed(f"the command cannot be run: {error.strerror}") from None
        try:
            output, _ = await process.communicate(text.encode())
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode != 0:
            said = output.decode(errors="replace").strip()[-OUTPUT_LIMIT:]
            raise ExchangeFailed(f"the command ended with {process.returncode}: {said}")

    async def _call_webhook(self, text: str) -> None:
        assert self.webhook is not None
        try:
            async with httpx.AsyncClient(timeout=self.timeout_seconds, trust_env=False) as client:
                answer = await client.post(
                    self.webhook, content=text, headers={"Content-Type": "application/json"}
                )
        except httpx.HTTPError as error:
            raise ExchangeFailed(f"the webhook did not answer: {type(error).__name__}") from None
        if not answer.is_success:
            raise ExchangeFailed(f"the webhook answered {answer.status_code}")
