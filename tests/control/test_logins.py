"""Where passwords and certificates come from, and what is refused about them."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from engine.errors import ConfigError
from tests.control.conftest import URLS, Inputs

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("with_file", "with_variable", "expected"),
    [
        pytest.param(True, True, "file", id="file-first"),
        pytest.param(False, True, "variable", id="variable-second"),
        pytest.param(False, False, "url", id="url-last"),
    ],
)
def test_password_priority(
    inputs: Inputs, with_file: bool, with_variable: bool, expected: str
) -> None:
    flags = {"source": "redis://a", "target": "redis://u:url@b"}
    if with_file:
        flags["target_password_file"] = inputs.file("password", b"file\n")
    variables = {"TARGET_PASSWORD": "variable"} if with_variable else {}

    task = inputs.read(flags, **variables).task

    assert ("u", expected) == (task.target.username, task.target.password)
    assert task.source.password is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"p", "p", id="bare"),
        pytest.param(b"p\n", "p", id="newline"),
        pytest.param(b"p\r\n", "p", id="windows-newline"),
        pytest.param(b" p ", " p ", id="spaces-kept"),
        pytest.param("pä%41".encode(), "pä%41", id="not-percent-decoded"),
    ],
)
def test_password_file_content(inputs: Inputs, content: bytes, expected: str) -> None:
    task = inputs.read({**URLS, "source_password_file": inputs.file("p", content)}).task

    assert expected == task.source.password


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"\n", "is empty", id="newline-only"),
        pytest.param(b"p\nq\n", "more than one line", id="two-lines"),
        pytest.param(b"p\n\n", "more than one line", id="empty-second-line"),
        pytest.param(b"p\r\nq\r\n", "more than one line", id="windows-lines"),
        pytest.param(b"\xff", "not UTF-8", id="not-utf8"),
        pytest.param(b"x" * 70_000, "longer than", id="long"),
    ],
)
def test_unusable_password_file_is_refused(inputs: Inputs, content: bytes, says: str) -> None:
    with pytest.raises(ConfigError, match=f"source password file .*{says}") as caught:
        inputs.read({**URLS, "source_password_file": inputs.file("p", content)})

    assert caught.value.hint


@pytest.mark.parametrize("name", ["missing", "."])
def test_unreadable_password_file_is_refused(inputs: Inputs, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot read the target password file"):
        inputs.read({**URLS, "target_password_file": str(inputs.folder / name)})


def test_world_readable_password_file_earns_a_warning(inputs: Inputs) -> None:
    path = inputs.file("p", b"p", mode=0o644)
    assert Path(path).stat().st_mode & stat.S_IROTH

    (warning,) = inputs.read({**URLS, "source_password_file": path}).warnings

    assert f"chmod 600 {path}" in warning


def test_user_without_password_is_refused_and_not_shown(inputs: Inputs) -> None:
    with pytest.raises(ConfigError, match="user name but no password") as caught:
        inputs.read({"source": f"redis://{SECRET}@a", "target": "redis://b"})

    assert SECRET not in str(caught.value)


def test_options_hold_no_password_in_their_repr(inputs: Inputs) -> None:
    options = inputs.read({**URLS, "source": f"redis://u:{SECRET}@a"}, TARGET_PASSWORD=SECRET)

    assert options.task.target.password == SECRET
    assert SECRET not in repr(options)


# Certificates


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = str(folder / "key.pem"), str(folder / "cert.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "1", "-subj", "/CN=test", "-keyout", key, "-out", cert]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl command")
    return cert, key


def test_certificates_reach_the_endpoint(inputs: Inputs, certificate: tuple[str, str]) -> None:
    cert, key = certificate
    flags = {"source": "rediss://a", "target": "redis://b"}

    tls = inputs.read({**flags, "source_tls_ca": cert, "source_tls_cert": cert}, SOURCE_TLS_KEY=key)

    assert tls.task.source.tls is not None
    assert (Path(cert), Path(cert), Path(key), True) == (
        tls.task.source.tls.ca_file,
        tls.task.source.tls.cert_file,
        tls.task.source.tls.key_file,
        tls.task.source.tls.verify,
    )
    assert tls.task.target.tls is None


def test_insecure_earns_a_warning(inputs: Inputs) -> None:
    options = inputs.read({**URLS, "target": "rediss://b", "target_tls_insecure": True})

    assert options.task.target.tls is not None
    assert not options.task.target.tls.verify
    assert "target is not verified" in options.warnings[0]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        pytest.param({"tls_ca": "missing"}, "cannot read .*--source-tls-ca", id="ca-missing"),
        pytest.param({"tls_ca": "junk"}, "CA file .* cannot be used.*PEM", id="ca-junk"),
        pytest.param({"tls_cert": "junk"}, "certificate .* cannot be used", id="cert-junk"),
        pytest.param({"tls_cert": "missing"}, "cannot read .*--source-tls-cert", id="cert-missing"),
        pytest.param({"tls_key": "junk"}, "without --source-tls-cert", id="key-alone"),
    ],
)
def test_unusable_certificates_are_refused(
    inputs: Inputs, names: dict[str, str], says: str
) -> None:
    inputs.file("junk", b"junk")
    flags = {f"source_{name}": str(inputs.folder / file) for name, file in names.items()}

    with pytest.raises(ConfigError, match=says):
        inputs.read({"source": "rediss://a", "target": "redis://b", **flags})


def test_ca_and_insecure_contradict(inputs: Inputs, certificate: tuple[str, str]) -> None:
    flags = {"source_tls_ca": certificate[0], "source_tls_insecure": True}

    with pytest.raises(ConfigError, match="contradict"):
        inputs.read({"source": "rediss://a", "target": "redis://b", **flags})


def test_tls_options_without_a_tls_url_are_refused(inputs: Inputs) -> None:
    with pytest.raises(ConfigError, match=r"have no meaning.*use rediss://"):
        inputs.read({**URLS, "source_tls_insecure": True})
