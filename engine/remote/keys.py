"""A key in the operating system's keyring, by the package `keyring`, imported only where the user names one there."""

from __future__ import annotations

from midspan.engine.api import RemoteError

# Whose entry it is: nobody else's password can be read by naming its service.
USER = "midspan"
UNAUTHORIZED = 401
# A keyring may ask the person to unlock it: once is enough.
_read: dict[str, str] = {}


def stored_key(service: str) -> str:
    """The key of a service, which is read once; empty where the keyring has none. Raises RemoteError with the fix."""
    if service not in _read and (found := _in_keyring(service)):
        _read[service] = found
    return known_key(service)


def known_key(service: str) -> str:
    """The key of a service, if it has been read."""
    return _read.get(service, "")


def _in_keyring(service: str) -> str:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        fix = "run python -m pip install 'midspan[keyring]'"
        raise RemoteError(f"keyring:{service}: the package keyring is not there; {fix}", status=UNAUTHORIZED) from None
    try:
        return (keyring.get_password(service, USER) or "").strip()
    except keyring.errors.KeyringError as error:
        # Its words may be anything.
        problem = f"the keyring cannot be read ({type(error).__name__}); unlock it, or use key_variable"
        raise RemoteError(f"keyring:{service}: {problem}", status=UNAUTHORIZED) from None
