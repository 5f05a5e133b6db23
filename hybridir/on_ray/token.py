"""Makes the token of a cluster, which only you can read: python -m hybridir.on_ray.token. Checks it, too."""

import contextlib
import os
import secrets
import shlex
import stat
import sys
from pathlib import Path

from hybridir.runtime.home import at_home


def token_file() -> Path:
    """Where Ray looks for the token of a cluster. `ValueError` without a home folder."""
    return Path(at_home(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token"))


def check_token_file() -> None:
    """`ValueError` if others can read the file with the token: whoever has it can run commands as this user."""
    file = token_file()
    with contextlib.suppress(OSError):
        of_file, shown = file.stat(), shlex.quote(str(file))
        if not stat.S_ISREG(of_file.st_mode):
            raise ValueError(f"{file} is no ordinary file: remove it, and make a token there")
        if of_file.st_mode & 0o077:
            raise ValueError(
                f"{file} can be read by other users, who could then run anything on the cluster as you: "
                f"chmod 600 {shown}, and make a new token if others use this machine"
            )
        for folder in dict.fromkeys((file.parent, file.resolve().parent)):  # a link can be changed at both ends
            of_folder = folder.stat()
            if {of_file.st_uid, of_folder.st_uid} - {os.geteuid(), 0}:
                raise ValueError(
                    f"{file} or its folder belongs to another user, who then knows your token: put a token of your own "
                    "into a folder of your own (python -m hybridir.on_ray.token makes one), and name it by "
                    "RAY_AUTH_TOKEN_PATH"
                )
            if of_folder.st_mode & 0o022 and not of_folder.st_mode & stat.S_ISVTX:
                raise ValueError(
                    f"other users can put a token of theirs in place of {file}: chmod go-w "
                    f"{shlex.quote(str(folder))}, and make a new token if others use this machine"
                )


def main() -> None:
    try:
        file = token_file()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        sys.exit(f"error: {file} is there already and stays: remove it if you want a new token")
    except (OSError, ValueError) as error:
        sys.exit(f"error: no token can be written ({error}): name a file for it by RAY_AUTH_TOKEN_PATH")
    with open(descriptor, "w", encoding="ascii") as opened:
        opened.write(secrets.token_hex(32))
    print(f"{file}: copy it to every machine of the cluster, and let nobody else read it")


if __name__ == "__main__":
    main()
