"""What is said where the home folder is missing or read-only."""

import pwd

import datasets
import pytest
from huggingface_hub import constants

from hybridir.data.config import DataConfig
from hybridir.data.sources import find_shards
from hybridir.model.files import check_hub
from hybridir.on_ray import token
from hybridir.runtime.home import at_home
from hybridir.runtime.owner import named_output


def test_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a user whom the system does not know, in a container."""

    def unknown(uid: int) -> object:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for path in ("~", "~/out"):
        with pytest.raises(ValueError, match=f"'{path}': the home folder is not known: set HOME, or write the path"):
            at_home(path)
    with pytest.raises(ValueError, match="'~/out': the home folder is not known"):
        named_output(["--output", "~/out"])
    assert [at_home(path) for path in ("a/~", "~~/b", "/c")] == ["a/~", "~~/b", "/c"]


def test_a_user_who_is_not_there() -> None:
    """A shell leaves such a path as it is, and a folder `~nobody-here` would be made."""
    for refuse in (at_home, lambda path: named_output(["--output", path])):
        for path in ("~nobody-here/run", "~nobody-here"):
            with pytest.raises(
                ValueError, match=f"'{path}': there is no user nobody-here: write ./{path} for a folder"
            ):
                refuse(path)
    assert at_home("./~nobody-here/run") == "./~nobody-here/run"
    assert at_home("~root/x") == f"{pwd.getpwnam('root').pw_dir}/x"


def test_files_of_the_hub_need_a_folder_that_can_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the hub is asked."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "/proc/none/hub")
    with pytest.raises(ValueError, match=r"/proc/none/hub, where files .*, cannot be written to .*: set HF_HOME to"):
        check_hub("nobody/nothing", None)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", "/proc/none/datasets")
    with pytest.raises(ValueError, match=r"/proc/none/datasets, where .* cannot be written to .*: set HF_HOME to"):
        find_shards(DataConfig(format="wikiqa", revision="0" * 40))


def test_a_token_needs_a_folder_that_can_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", "/proc/none")
    with pytest.raises(SystemExit, match=r"no token can be written .*: name a file for it by RAY_AUTH_TOKEN_PATH"):
        token.main()
