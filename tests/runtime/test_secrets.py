"""Masking of credentials."""

import json
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

import pytest

from hybridir.runtime.secrets import errors_masked, without_secrets


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://ann:pw@host:1/a", "http://***@host:1/a"),
        ("http://token@host/a", "http://***@host/a"),
        ("postgresql://ann:p/w@d@host/db", "postgresql://***@host/db"),
        ("no http://a:b@h/x, nor mysql+pymysql://c:d@i/y!", "no http://***@h/x, nor mysql+pymysql://***@i/y!"),
        ("url: /api/get?name=x&token=y (Caused by z)", "url: /api/get?name=***&token=*** (Caused by z)"),
        ("s3://bucket/key?sig=a%2Fb#top", "s3://bucket/key?sig=***#top"),
        ("http://h/x#access_token=S", "http://h/x#access_token=***"),
        ("s3://b/x?S", "s3://b/x?***"),
        ("s3://b/x?S&a=T", "s3://b/x?***&a=***"),
        ("http://ann:my pw@host/a", "http://***@host/a"),
        ('http://ann:my"pw@host/a', "http://***@host/a"),
        ("http://h/#/experiments/1/runs/ab", "http://h/#/experiments/1/runs/ab"),
        ('{"a":"http://h:80","b":"me@x"}', '{"a":"http://h:80","b":"me@x"}'),
        ('{"a":"http://h:80/","b":"me@x"}', '{"a":"http://h:80/","b":"me@x"}'),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
        ("models:/hybridir@champion, why? a=b", "models:/hybridir@champion, why? a=b"),
    ],
)
def test_credentials_in_addresses_are_masked(text: str, masked: str) -> None:
    assert without_secrets(text) == masked


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("AWS_SECRET_ACCESS_KEY", True),
        ("AWS_ACCESS_KEY_ID", True),
        ("MLFLOW_TRACKING_PASSWORD", True),
        ("HF_TOKEN", True),
        ("github_token", True),
        ("DB_CREDENTIALS", True),
        ("TOKENIZERS_PARALLELISM", False),
        ("KEYBOARD", False),
        ("AZURE_STORAGE_KEY", True),
        ("AZURE_STORAGE_CONNECTION_STRING", True),
        ("MYSQL_PWD", True),
        ("DB_PASS", True),
        ("HTTP_AUTHORIZATION", True),
        ("GITHUB_PAT", True),
        ("PWD", False),
        ("OLDPWD", False),
        ("PYTHONPATH", False),
        ("XAUTHORITY", False),
    ],
)
def test_secret_variables_are_masked(name: str, is_secret: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "canary-7261")
    assert without_secrets("it is canary-7261.") == ("it is ***." if is_secret else "it is canary-7261.")


def test_short_values_are_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "false")
    assert without_secrets("false") == "false"


@pytest.mark.parametrize("write", [json.dumps, partial(json.dumps, ensure_ascii=False), partial(quote, safe="")])
def test_values_that_are_escaped_are_masked(write: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", 'canary "ä\\/')
    assert "canary" not in without_secrets(write('canary "ä\\/'))
    assert without_secrets(json.dumps({"a": 'canary "ä\\/'})) == '{"a": "***"}'


def test_errors_end_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "canary-7261")
    for error in (ValueError("of canary-7261"), RuntimeError("of canary-7261"), SystemExit("of canary-7261")):
        with pytest.raises(SystemExit, match=r"of \*\*\*") as ending, errors_masked(ValueError):
            raise error
        assert "canary" not in str(ending.value.code)
        assert ("Traceback" in str(ending.value.code)) == isinstance(error, RuntimeError)
