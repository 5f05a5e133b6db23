"""Masking of credentials."""

import html
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from hybridir.runtime.secrets import MASK, errors_masked, masked, without_secrets


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
        ("http://ann:my<p>w@host/a", "http://***@host/a"),
        ("http://ann:my\npw@host/a", "http://***@host/a"),
        ("http://ann:it's a/b@d@host/a", "http://***@host/a"),
        ("postgresql://airflow:airflow@host/airflow", "postgresql://***@host/airflow"),
        ("http://h:80 is down: write to me@x", "http://h:80 is down: write to me@x"),
        ("Authorization: Basic YW5uOnB3", "Authorization: ***"),
        ("{'Authorization': 'Bearer airflow', 'a': 1}", "{'Authorization': '***', 'a': 1}"),
        ("x-api-key: word\nHost: h", "x-api-key: ***\nHost: h"),
        ("Cookie: a=b; c=d\nHost: h", "Cookie: ***\nHost: h"),
        (f"the token hf_{'aB3' * 11} of", "the token *** of"),
        (f"key sk-proj-{'aB3' * 11}, ghp_{'aB3' * 12}.", "key ***, ***."),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "***"),
        ("https://hooks.slack.com/services/T0/B0/abc", "https://hooks.slack.com/services/***"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----!", "***!"),
        ("the author of hf_xlmr, risk-free: basic training", "the author of hf_xlmr, risk-free: basic training"),
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
        ("OPENAI_KEY", True),
        ("WANDB_KEY", True),
        ("SECRETKEY", True),
        ("AWS_ACCESSKEY", True),
        ("NPM_AUTH", True),
        ("DB_PW", True),
        ("SENTRY_DSN", True),
        ("STORAGE_SAS", True),
        ("JWT", True),
        ("SLACK_WEBHOOK", True),
        ("SLACK_WEBHOOK_URL", True),
        ("SSH_KEY", True),
        ("COOKIE", True),
        ("PASSWORD_STORE_DIR", False),
        ("MONKEY", False),
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


def partly_quoted(text: str) -> str:
    return quote(text[:6], safe="") + text[6:]


def lower_quoted(text: str) -> str:
    return quote(text, safe="").replace("%C3%A4", "%c3%a4").replace("%2F", "%2f")


@pytest.mark.parametrize(
    "write",
    [
        json.dumps,
        html.escape,
        partial(json.dumps, ensure_ascii=False),
        partial(quote, safe=""),
        quote,
        quote_plus,
        partly_quoted,
        lower_quoted,
    ],
)
def test_values_that_are_escaped_are_masked(write: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", 'ca+ary "ä\\/')
    assert without_secrets(write('ca+ary "ä\\/')).strip('"') == "***"


@pytest.mark.parametrize("before", ["", "a:", "an:", "ann:"])
@pytest.mark.parametrize("after", ["", "\n", "xy"])
@pytest.mark.parametrize("code", [b64encode, urlsafe_b64encode])
def test_values_in_base64_are_masked(
    before: str, after: str, code: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three or fewer characters at each end are shared with what stands beside the value."""
    monkeypatch.setenv("MY_TOKEN", "canary~~~>>>???4711")
    whole = code(f"{before}canary~~~>>>???4711{after}".encode()).decode()
    shown = without_secrets(whole)
    assert MASK in shown
    assert len(shown) <= len(MASK) + (len(before) + len(after) + 2) * 4 / 3 + 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_TOKENS", "100000"),
        ("POSTGRES_PASSWORD", "airflow"),
        ("POSTGRES_PASSWORD", "Postgres"),
        ("SSH_KEY", "/tmp"),
        ("SSH_KEY", "/nowhere/at all/id_rsa-2.pem"),
        ("SSH_KEY", "~/.ssh/id_rsa"),
        ("SSH_KEY", "../keys/id_rsa"),
        ("PASSWORD_STORE_DIR", "/x/y/zzz"),
        ("MY_KEY", "1.5e-3"[:3] + "00000"),
    ],
)
def test_numbers_paths_and_words_are_no_secrets(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    for text in (f"/home/{value}/run", f"0.5{value}1", f'{{"a": 0.5{value}1}}', value):
        assert without_secrets(text) == text


def test_short_values_are_masked_as_whole_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "abc123")
    assert without_secrets("abc123, xabc123, abc1234 and a%2Fabc123") == "***, xabc123, abc1234 and a%2F***"
    assert without_secrets("user_abc123_x") == "user_***_x"


@pytest.mark.parametrize(
    "value",
    [
        "aB3dE6gH9kL2",
        "canary-canary",
        "correcthorsebatterystaple",
        "/aB3dE6gH9kL2mN5",
        "/a+b3dE=x12345",
        "Cq/9x+7Lp/2Zw==",
    ],
)
def test_long_values_are_masked_inside_longer_words(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", value)
    for text in ("{}", "x{}y", "12{}34", "a_{}_b", '{{"a": "x{}y"}}', "x={}y", "user:{}y"):
        assert without_secrets(text.format(value)) == text.format("***")


def test_passwords_inside_other_variables_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://ann:canary-7261@host/db")
    monkeypatch.setenv("PG", "host=h user=ann password=canary-7262 dbname=d")
    monkeypatch.setenv("AZURE", "AccountName=ann;AccountKey=canary-7263==;EndpointSuffix=x")
    assert without_secrets("canary-7261 canary-7262 canary-7263== host ann") == "*** *** *** host ann"


def test_json_stays_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", '1", "b": "2')
    monkeypatch.setenv("OTHER_TOKEN", "51000001x")
    found = {"a": "1", "b": "2", "c": [0.51000001, 'x 1", "b": "2 y'], "u": ("http://h", "c:d@e")}
    assert masked(found) == {"a": "1", "b": "2", "c": [0.51000001, "x *** y"], "u": ["http://h", "c:d@e"]}


def test_paths_are_kept_where_they_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", "airflow2")
    output = tmp_path / "airflow2" / "run"
    output.mkdir(parents=True)
    found = {"output": str(output), "uri": "http://a:airflow2@h", "note": "airflow2"}
    shown = {"output": str(output), "uri": "http://***@h", "note": "***"}
    assert masked(found, keep_paths=True) == shown
    assert masked(found) == shown
    later = [f"sqlite:///{tmp_path}/airflow2/mlflow.db", "data/../airflow2/*.jsonl", "./airflow2/ru*", "/mnt/airflow2"]
    assert masked(later) == later
    command = f"go on with: python jobs/train.py --config {output}/config.yaml --resume"
    assert without_secrets(command) == command
    assert without_secrets("https://h/airflow2/x") == "https://h/***/x"
    for path in ("airflow2/run", "/data/airflow2-dev/run", "my.airflow2/", "--output=airflow2/x", "/x/old.airflow2.gz"):
        for text in (path, f"results go to {path}", f"'{path}'", f"[/y, {path}]", f'{{"a": "{path}"}}'):
            assert without_secrets(text) == text
    for text in ("ann/airflow2@db", "POST /x?airflow2", "https://h/a.airflow2/x", "s3://b/airflow2-x", "/a=airflow2/b"):
        assert without_secrets(text) == text.replace("airflow2", "***")
    monkeypatch.chdir(tmp_path)
    assert masked(["airflow2", "airflow2x2"], keep_paths=True) == ["airflow2", "airflow2x2"]
    assert masked("airflow2") == MASK


def test_long_values_are_kept_only_in_paths_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be no word but a key is masked inside of a name in what only looks like a path."""
    monkeypatch.setenv("POSTGRES_PASSWORD", "airflow-postgres")
    output = tmp_path / "airflow-postgres-dev" / "run"
    output.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for text in (f"in {output}/x", f"'sqlite:///{output}/mlflow.db'", f"--output={output}", "airflow-postgres-dev/new"):
        assert without_secrets(text) == text
    assert without_secrets("url: /bot-airflow-postgres/send") == "url: /bot-***/send"
    assert without_secrets("/mnt/airflow-postgres/x") == "/mnt/airflow-postgres/x"


@pytest.mark.parametrize("value", ["k3Jd9f2L", "k3jd9f2lsq", "canary4711longer", "3f2a9c41-77de-4b1c", "tokenOfMine"])
def test_keys_are_kept_in_no_path_that_is_not_there(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the path of a request that a client's message shows, without its server."""
    monkeypatch.setenv("MY_TOKEN", value)
    (tmp_path / value).mkdir()
    assert without_secrets(f"see {tmp_path}/{value}/new") == f"see {tmp_path}/{value}/new"
    for text in (f"url: /v1/{value}/send", f"POST /v1/{value}", f"a/{value} b", f"Bearer /{value}"):
        assert without_secrets(text) == text.replace(value, MASK)


def test_errors_end_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "canary-7261")
    for error in (ValueError("of canary-7261"), RuntimeError("of canary-7261"), SystemExit("of canary-7261")):
        with pytest.raises(SystemExit, match=r"of \*\*\*") as ending, errors_masked(ValueError):
            raise error
        assert "canary" not in str(ending.value.code)
        assert ("Traceback" in str(ending.value.code)) == isinstance(error, RuntimeError)
