"""Joining and starting Ray: what is refused before Ray is started."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import ROOT

from hybridir.on_ray import cluster as cluster_module
from hybridir.on_ray import token
from hybridir.on_ray.cluster import cluster


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_gone_is_named(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"{scheme}127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 40)
    began = time.monotonic()
    with pytest.raises(ValueError, match=f"no Ray cluster answers at RAY_ADDRESS={address} .*unset RAY_ADDRESS"):
        cluster(1).__enter__()
    assert time.monotonic() - began < 60


SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""What a server of HTTP/2 says first (RFC 9113, 3.4), also a proxy in front of a cluster that is gone."""


def test_a_port_that_speaks_but_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_ANSWER_TAKES", 12)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 40)
    heard, kept = [], []
    with socket.create_server(("", 0)) as server, ThreadPoolExecutor(1) as pool:  # Ray asks the address of the machine

        def speak() -> None:
            while not heard or heard[-1] != b"end":
                kept.append(server.accept()[0])
                with contextlib.suppress(OSError):
                    kept[-1].sendall(SETTINGS)
                    heard.append(kept[-1].recv(3))

        speaking = pool.submit(speak)
        port = server.getsockname()[1]
        address = f"127.0.0.1:{port}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ValueError, match=rf"no Ray cluster answers at RAY_ADDRESS={address} \(timed out\)"):
            cluster(1).__enter__()
        with socket.create_connection(("127.0.0.1", port)) as last:
            last.sendall(b"end")
            speaking.result()
    for connection in kept:
        connection.close()
    assert b"PRI" in heard  # Ray itself has asked, not only a look whether somebody listens


NO_CLUSTER = {"": "it names none", "local": "it names none", "foo": "ValueError: Invalid address format: foo"}
NO_CLUSTER |= {"auto": "; auto is the cluster that was started last on this machine, which may have ended"}


@pytest.mark.parametrize("address", NO_CLUSTER)
def test_an_address_that_is_no_port(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto`: the address in the file that `ray start` wrote is of a cluster that has ended."""
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{free_port()}", encoding="utf-8")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    if address == "auto":
        monkeypatch.setattr(cluster_module, "_ANSWER_TAKES", 4)  # Ray tries for longer
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 40)
    message = rf"no Ray cluster answers at RAY_ADDRESS={address} \(.*{re.escape(NO_CLUSTER[address])}"
    with pytest.raises(ValueError, match=message):
        cluster(1).__enter__()


def test_sigterm_ends_a_job_that_waits_for_an_answer() -> None:
    code = (
        "from hybridir.on_ray.cluster import _check_answers as check; import os\n"
        "from hybridir.runtime.signals import interruptible\n"
        "with interruptible():\n    print('asks', flush=True)\n    check(os.environ['RAY_ADDRESS'])"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        environment = os.environ | {"RAY_ADDRESS": f"127.0.0.1:{server.getsockname()[1]}"}
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as job:
            assert job.stdout
            assert job.stdout.readline() == b"asks\n"
            connection, _ = server.accept()
            with connection:
                job.terminate()
                assert job.wait(10) == 75  # before the 40 seconds that an answer may take are over


@pytest.mark.parametrize("named", [False, True])
def test_a_token_that_others_can_read_is_refused(named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    file = tmp_path / ("my token" if named else ".ray/auth_token")
    if named:
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    file.parent.mkdir(exist_ok=True)
    file.write_text("a" * 40, encoding="utf-8")
    for mode in (0o644, 0o640, 0o604):
        file.chmod(mode)
        with pytest.raises(ValueError, match=r"can be read by other users.*chmod 600 .*token"):
            cluster(1).__enter__()
    file.chmod(0o600)
    with pytest.raises(ValueError, match="no Ray cluster answers"):
        cluster(1).__enter__()


def test_a_token_is_an_ordinary_file_that_nobody_else_can_replace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a link leads to it: both folders count."""
    file, shared, own = tmp_path / "ray" / "token", tmp_path / "shared", tmp_path / "own"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    for folder, mode in ((file.parent, 0o700), (shared, 0o777), (own, 0o755)):
        folder.mkdir()
        folder.chmod(mode)
        (folder / "real").write_text("a" * 40, encoding="utf-8")
        (folder / "real").chmod(0o600)
    file.symlink_to(own / "real")
    token.check_token_file()
    file.unlink()
    file.symlink_to(shared / "real")
    with pytest.raises(ValueError, match=rf"in place of {file}: chmod go-w {shared},"):
        token.check_token_file()
    file.unlink()
    os.mkfifo(file, 0o600)
    with pytest.raises(ValueError, match="token is no ordinary file: remove it"):
        token.check_token_file()


def test_a_long_folder_for_temporary_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert len(os.fsencode(tmp_path)) > 26
    with pytest.raises(ValueError, match=r"too long for Ray's sockets: set RAY_TMPDIR to a folder .* such as /tmp"):
        cluster(1).__enter__()


def test_a_token_of_others_or_in_their_reach_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys" / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setattr(sys, "argv", ["token"])
    before = os.umask(0)
    try:
        token.main()
    finally:
        os.umask(before)
    made = file.read_text(encoding="utf-8")
    assert len(made) == 64
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    with pytest.raises(SystemExit, match="is there already and stays"):
        token.main()
    assert file.read_text(encoding="utf-8") == made
    file.parent.chmod(0o770)
    with pytest.raises(ValueError, match=r"other users can put a token of theirs in place of .*chmod go-w"):
        cluster(1).__enter__()
    file.parent.chmod(0o700)
    if os.geteuid():
        monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    else:  # what belongs to the superuser would be trusted
        os.chown(file, 12345, -1)
    with pytest.raises(ValueError, match="belongs to another user"):
        cluster(1).__enter__()


IMPORTED_BEFORE = """
import os, ray, psutil
from hybridir.on_ray.cluster import cluster
try:
    with cluster(1):
        mine = {one.pid for one in psutil.Process().children(recursive=True)} | {os.getpid()}
        found = {one.laddr.ip for one in psutil.net_connections("inet") if one.status == "LISTEN" and one.pid in mine}
        print("LISTEN", sorted(found))
        raise RuntimeError("x")
except RuntimeError:
    pass
"""


def test_ray_that_was_imported_before_listens_on_the_loopback_and_its_logs_are_named() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", IMPORTED_BEFORE]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    found = next(line for line in done.stdout.splitlines() if line.startswith("LISTEN"))
    kept = re.search(r"logs of this run are kept in (\S+): delete it", done.stdout)
    assert kept
    folder = Path(kept[1])
    assert folder.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(folder)
    assert set(re.findall(r"'(.*?)'", found)) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
