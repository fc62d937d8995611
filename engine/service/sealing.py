"""Instance passwords at rest: encrypted with a key that is not in the store."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from engine.errors import ConfigError
from engine.service.private_file import can_others_read


class Seal:
    """Encrypts and decrypts short texts (Fernet: AES-128-CBC with HMAC-SHA256)."""

    def __init__(self, key: str) -> None:
        try:
            self._fernet = Fernet(key.encode())
        except (ValueError, UnicodeEncodeError):
            raise ConfigError(
                "the secret key is not one",
                hint="it is 32 random bytes in URL-safe base64; leave it out and one is made",
            ) from None

    def close(self, password: str | None) -> str | None:
        """The sealed form of a password; None stays None."""
        return None if password is None else self._fernet.encrypt(password.encode()).decode()

    def open(self, sealed: str | None) -> str | None:
        """The password in a sealed form.

        Raises:
            ConfigError: it was sealed with another key.
        """
        if sealed is None:
            return None
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise ConfigError(
                "a stored instance password was sealed with another key",
                hint="start the service with the key it was stored with, or configure the task anew",
            ) from None


def read_or_make_key(path: Path) -> str:
    """The key in `path`; made there, readable by this user only, if the file is not there.

    Raises:
        ConfigError: unreadable, or readable by others.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_key(path)
    except OSError as error:
        raise ConfigError(f"cannot make the secret key file {path}: {error.strerror}") from None
    key = Fernet.generate_key()
    with os.fdopen(descriptor, "wb") as file:
        file.write(key + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return key.decode()


def _read_key(path: Path) -> str:
    try:
        status = path.stat()
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the secret key file {path}: {error}") from None
    if can_others_read(status):
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(
            f"the secret key file {path} can be read by others (mode {mode:04o})",
            hint=f"protect it: chmod 600 {path}",
        )
    return text
