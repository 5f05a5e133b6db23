"""Keeps credentials out of everything that is printed, logged or stored.

What stands in the place of a credential (in an address or a header), or has the shape of a known key, is always masked.
Elsewhere, the values of environment variables with names like `..._TOKEN` are masked, unless they are numbers, paths or
plain words, which texts have for other reasons too.
"""

import html
import json
import os
import re
import sys
import traceback
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from hybridir.runtime.limits import remedy

MASK = "***"
_USERINFO = re.compile(
    r"""(://)(?:[^\s"<>/?#@]*:[^\s"<>]*@"""  # the password may have / or @
    r"""|[^\s"<>/?#@]*:(?!\d+(?:["'\s,)\]/?#]|$))[^@]{1,200}@(?:[^\s"<>/@]*@)*"""  # or quotes; but is no port
    r"""|[^\s"<>/?#]*@)"""
)
_URI_QUERY = re.compile(r'(://[^\s"<>?#]*\?)([^\s"<>#]+)')
_BARE_PART = re.compile(r"(?<![^&;])[^&;=]+(?![^&;])")
_QUERY = re.compile(r'[?#][^\s"<>?#=]+=[^\s"<>]*')
_QUERY_VALUE = re.compile(r"=[^&;#]+")
_HEADER = re.compile(
    r"""\b((?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]*(?:key|token|auth|secret)[\w-]*)(['"]?\s*:\s*['"]?)"""
    r"""(?=[^\s'"])[^'"\r\n]+""",
    re.I,
)
_SHAPES = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----"
    r"|\b(?:(?:hf|gh[pousr]|github_pat|npm)_\w{20,}|(?:sk|glpat|xox[abeprs])-[\w-]{20,}|(?:AKIA|ASIA)[0-9A-Z]{16}"
    r"|AIza[\w-]{35}|dapi[0-9a-f]{32}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|(?<=Bearer )[\w.~+/=-]{16,}"
    r"|(?<=hooks\.slack\.com/services/)[\w/]+)",
    re.S,
)
_SECRET_NAME = re.compile(
    r"(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|AUTHORIZATION|CONNECTION_?STRING|WEBHOOK|JWT|COOKIE"
    r"|CREDS|PASSCODE|(?:API|ACCESS|SECRET|PRIVATE|SIGNING|ENCRYPTION|MASTER)KEY"
    r"|_PWD|_PASS|_PAT|_PW|_DSN|_SAS|_KEY|_AUTH)S?(_|$)",
    re.I,
)
_NAME_OF_A_PATH = re.compile(r"_(DIR|FILE|PATH|HOME)$", re.I)
_INSIDE = re.compile(
    r"://[^\s/?#@:]*:([^\s]+)@|(?:pass(?:word)?|pwd|key|secret|token|signature)\s*=\s*([^;\s&]+)", re.I
)
_LOCAL_PATH = re.compile(r"""(?<![^\s"'<>=(\[,])(?:(?:sqlite|file):/{2,4})?[^\s"'<>:]*/[^\s"'<>:]*""")
_BEFORE_A_PATH = re.compile(r"(?:--[\w.]+=)?(?:sqlite:///|file://)?")
_NAME = re.compile(r"(?:--[\w.]+=)?[^@=&?#]+")
_PART = re.compile(r"[^/]+")
_PATH = re.compile(r"(?:~|\.\.?)?(?:/[\w. -]+)+/?")
_KEY = re.compile(r"(?=[a-zA-Z]*\d)(?=[A-Z\d]*[a-z])(?=[a-z\d]*[A-Z])[a-zA-Z\d]{10,}")
"""As in base64, which may begin with a slash: ten characters or more, among them digits, small and capital letters."""
_WORDS = re.compile(r"[a-zA-Z][a-z]*\d{0,4}(?:[-_.][a-zA-Z][a-z]*\d{0,4})*")
"""What a person may name a folder, and no key looks like: `airflow`, `Airflow2`, `airflow-postgres`."""
_SHORTEST = 6
"""Characters. Shorter values of environment variables are not masked: they may be ordinary words."""
_LONGEST_WORD = 16
"""Characters. Letters alone, all small or with a capital first, are a word up to this length."""
_SAFE_INSIDE = 12
"""Characters. Shorter values are masked only where they are no part of a longer word or number, others anywhere."""


def without_secrets(text: str) -> str:
    """`text` with `***` in place of everything that may be secret.

    Masked are user and password in URIs, the values in query strings and fragments of URIs, headers that log in, keys
    of known shapes, and the values of environment variables whose name suggests a secret (TOKEN, PASSWORD, ..._KEY) and
    passwords inside others (DATABASE_URL), also when they are escaped as in JSON or URIs, or in base64. Names
    in local paths that are there are not masked, for they would be found no more; in other paths, words are not (see
    `_WORDS`): short ones in any name, longer ones if they are the whole name.
    """
    if values := _values(tuple(os.environ.items())):
        names = [
            (path.start(), *name.span())
            for path in _LOCAL_PATH.finditer(text)
            for name in _PART.finditer(text, *path.span())
            if _NAME.fullmatch(name[0])
        ]

        def mask(found: re.Match[str]) -> str:
            for path, start, end in names:
                if start <= found.start() and found.end() <= end:
                    whole = found[0] == text[start:end].rstrip(",;.)")
                    if (_WORDS.fullmatch(found[0]) and (whole or len(found[0]) < _SAFE_INSIDE)) or os.path.lexists(
                        _BEFORE_A_PATH.sub("", text[path:end], count=1)
                    ):
                        return found[0]
            return MASK

        text = _pattern(values).sub(mask, text)
    text = _SHAPES.sub(MASK, _HEADER.sub(rf"\1\2{MASK}", text))
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    text = _URI_QUERY.sub(lambda uri: uri[1] + _BARE_PART.sub(MASK, uri[2]), text)
    return _QUERY.sub(lambda query: _QUERY_VALUE.sub(f"={MASK}", query[0]), text)


def masked(value: Any, keep_paths: bool = False) -> Any:
    """A JSON value with `without_secrets` applied to every string in it; tuples become lists. Numbers stay.

    With `keep_paths`, strings that are paths of existing files stay too, so that what was stored can be found again.
    """
    if isinstance(value, dict):
        return {masked(name): masked(one, keep_paths) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [masked(one, keep_paths) for one in value]
    if not isinstance(value, str) or (keep_paths and "://" not in value and os.path.exists(value)):
        return value
    return without_secrets(value)


@lru_cache(maxsize=4)
def _values(environment: tuple[tuple[str, str], ...]) -> frozenset[str]:
    """What is secret in the environment."""
    found = set()
    for name, value in environment:
        if _SECRET_NAME.search(name) and not _NAME_OF_A_PATH.search(name):
            found.add(value.strip())
        found |= {part for pair in _INSIDE.findall(value) for part in pair}
    return frozenset(value for value in found if len(value) >= _SHORTEST and not _is_plain(value))


def _is_plain(value: str) -> bool:
    """Whether a value is a number, a path or a word, which would be masked where it means something else."""
    word = value.isalpha() and value[1:].islower() and len(value) <= _LONGEST_WORD
    path = _PATH.fullmatch(value) and not _KEY.search(value)  # whether or not it is there now, on this machine
    return word or bool(path) or bool(re.fullmatch(r"[\d.,:+-]+", value))


@lru_cache(maxsize=4)
def _pattern(values: frozenset[str]) -> re.Pattern[str]:
    return re.compile("|".join(_forms(value) for value in sorted(values, key=len, reverse=True)))


def _forms(value: str) -> str:
    """A pattern for a value as it is, escaped as in JSON, HTML or a URI (each character or not), and in base64."""
    written = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], html.escape(value)}
    forms = "|".join([*map(re.escape, written), "".join(map(_in_uri, value))])
    if len(value) < _SAFE_INSIDE:
        forms = rf"(?:(?<![^\W_])|(?<=%[0-9A-Fa-f]{{2}})|(?<=\\[nrt]))(?:{forms})(?![^\W_])"
    return f"{forms}|{'|'.join(map(re.escape, _in_base64(value)))}" if len(value) >= 8 else forms


def _in_uri(character: str) -> str:
    coded = "".join(f"%{byte:02X}" for byte in character.encode(errors="surrogatepass"))
    return f"(?:{re.escape(character)}|(?i:{coded}){'|[+]' * (character == ' ')})"


def _in_base64(value: str) -> set[str]:
    """The digits of a value in base64 code of a longer text, at any offset in it (after `user:`, for example)."""
    found = set()
    for before in range(3):
        whole = bytes(before) + value.encode(errors="surrogatepass")
        code = b64encode(whole).decode()
        seen = code[-(-before * 8 // 6) : len(code) - (0, 3, 2)[len(whole) % 3]]  # no bit of it is of a neighbour
        found |= {seen, seen.replace("+", "-").replace("/", "_")}
    return found


@contextmanager
def errors_masked(*expected: type[Exception]) -> Iterator[None]:
    """Ends the process on an error, with secrets masked: `expected` errors by message, others with a traceback.

    An error that comes from a limit of the system is told with what raises it.
    """
    try:
        yield
    except SystemExit as error:
        raise SystemExit(without_secrets(error.code) if isinstance(error.code, str) else error.code) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic in Rust is no Exception
        way_out = remedy(error)
        known = isinstance(error, expected) or way_out
        told = "\n".join(filter(None, (f"error: {error}" if known else traceback.format_exc(), way_out)))
        sys.exit(without_secrets(told))
