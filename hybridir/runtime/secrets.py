"""Keeps credentials out of everything that is printed, logged or stored."""

import json
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

MASK = "***"
_USERINFO = re.compile(
    r"""(://)(?:[^\s"<>/?#@]*:[^\s"<>]*@|[^\s"<>/?#@]*:(?!\d+["'\s,)\]])[^\n<>/@]*@|[^\s"<>/?#]*@)"""
)
_URI_QUERY = re.compile(r'(://[^\s"<>?#]*\?)([^\s"<>#]+)')
_BARE_PART = re.compile(r"(?<![^&;])[^&;=]+(?![^&;])")
_QUERY = re.compile(r'[?#][^\s"<>?#=]+=[^\s"<>]*')
_QUERY_VALUE = re.compile(r"=[^&;#]+")
_SECRET_NAME = re.compile(
    r"(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|AUTHORIZATION|CONNECTION_?STRING|_PWD|_PASS|_PAT"
    r"|(ACCESS|API|PRIVATE|SIGNING|ENCRYPTION|STORAGE|ACCOUNT|SHARED|MASTER)_?KEY)S?(_|$)",
    re.I,
)
_SHORTEST = 6
"""Characters. Shorter values of environment variables are not masked: they may be ordinary words."""


def without_secrets(text: str) -> str:
    """`text` with `***` in place of everything that may be secret.

    Masked are user and password in URIs, the values in query strings and fragments of URIs, and the values of
    environment variables whose name suggests a secret (TOKEN, PASSWORD, ACCESS_KEY, ...), also when they are escaped as
    in JSON or URIs. Masks too much rather than too little.
    """
    values = {v.strip() for k, v in os.environ.items() if len(v.strip()) >= _SHORTEST and _SECRET_NAME.search(k)}
    values |= {form for v in values for form in (json.dumps(v)[1:-1], json.dumps(v, ensure_ascii=False)[1:-1])}
    values |= {quote(v, safe="") for v in values}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, MASK)
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    text = _URI_QUERY.sub(lambda uri: uri[1] + _BARE_PART.sub(MASK, uri[2]), text)
    return _QUERY.sub(lambda query: _QUERY_VALUE.sub(f"={MASK}", query[0]), text)


@contextmanager
def errors_masked(*expected: type[Exception]) -> Iterator[None]:
    """Ends the process on an error, with secrets masked: `expected` errors by message, others with a traceback."""
    try:
        yield
    except expected as error:
        sys.exit(f"error: {without_secrets(str(error))}")
    except SystemExit as error:
        raise SystemExit(without_secrets(error.code) if isinstance(error.code, str) else error.code) from None
    except Exception:
        sys.exit(without_secrets(traceback.format_exc()))
