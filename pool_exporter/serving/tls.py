"""Make a server's TLS context from the paths of PEM files, or say which argument is wrong and why."""

from __future__ import annotations

import errno
import os
import ssl
from pathlib import Path
from typing import Union

FilePath = Union[str, "os.PathLike[str]"]


def server_context(
    certfile: FilePath | None,
    keyfile: FilePath | None,
    client_cafile: FilePath | None,
    client_capath: FilePath | None,
    client_auth_required: bool,
) -> ssl.SSLContext | None:
    """Return the server's TLS context, None without a certificate; raise if the files do not fit."""
    _check_together(certfile, keyfile, client_cafile, client_capath, client_auth_required)
    if certfile is None or keyfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certfile, keyfile, password=lambda: _refuse_encrypted(keyfile))
    except ssl.SSLError as error:
        raise ValueError(
            f"certfile={os.fspath(certfile)!r}, keyfile={os.fspath(keyfile)!r}: {error.reason or error}; "
            "give a PEM certificate and the private key that belongs to it"
        ) from error
    if client_cafile is not None or client_capath is not None:
        try:
            context.load_verify_locations(client_cafile, client_capath)
        except ssl.SSLError as error:
            raise ValueError(
                f"client_cafile={client_cafile!r}, client_capath={client_capath!r}: {error.reason or error}; "
                "give the PEM certificates of the authorities that sign clients' certificates"
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED if client_auth_required else ssl.CERT_OPTIONAL
    return context


def _check_together(
    certfile: FilePath | None,
    keyfile: FilePath | None,
    client_cafile: FilePath | None,
    client_capath: FilePath | None,
    client_auth_required: bool,
) -> None:
    if keyfile is None and certfile is not None:
        raise ValueError(
            f"keyfile=None: certfile={os.fspath(certfile)!r} needs its private key; give keyfile="
        )
    if certfile is None and keyfile is not None:
        raise ValueError(
            f"certfile=None: keyfile={os.fspath(keyfile)!r} needs its certificate; give certfile="
        )
    has_authority = client_cafile is not None or client_capath is not None
    if client_auth_required and not has_authority:
        raise ValueError(
            f"client_auth_required={client_auth_required!r}: no authority to verify clients against; "
            "give client_cafile= or client_capath="
        )
    if has_authority and certfile is None:
        argument = "client_cafile" if client_cafile is not None else "client_capath"
        value = client_cafile if client_cafile is not None else client_capath
        raise ValueError(
            f"{argument}={value!r}: clients are verified over TLS only; give certfile= and keyfile= too"
        )
    _check_exists("certfile", certfile)
    _check_exists("keyfile", keyfile)
    _check_exists("client_cafile", client_cafile)
    _check_exists("client_capath", client_capath, directory=True)


def _check_exists(argument: str, path: FilePath | None, *, directory: bool = False) -> None:
    if path is None:
        return
    if not (Path(path).is_dir() if directory else Path(path).is_file()):
        what = "directory" if directory else "file"
        raise FileNotFoundError(
            errno.ENOENT, f"{argument}={os.fspath(path)!r}: no such {what}; give the path of a PEM {what}"
        )


def _refuse_encrypted(keyfile: FilePath) -> str:
    # Without this OpenSSL would ask on the terminal and wait.
    raise ValueError(
        f"keyfile={os.fspath(keyfile)!r}: the key is encrypted; give one that is not, readable by this user only"
    )
