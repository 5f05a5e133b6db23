"""How results were made: command, configuration, versions, fingerprints, sizes, time."""

import shlex
import sys
from datetime import datetime
from typing import Any

from hybridir.data.records import Benchmark, benchmark_fingerprint
from hybridir.runtime.secrets import without_secrets
from hybridir.runtime.versions import versions


def provenance(benchmark: Benchmark, config: dict[str, Any], fingerprints: dict[str, str]) -> dict[str, Any]:
    """The entry `provenance` of results. `config` holds no secrets; `fingerprints` are those of data and models."""
    return {
        "command": without_secrets(shlex.join(["python", *sys.argv])),
        "config": config,
        "versions": versions(),
        "fingerprints": {"benchmark": benchmark_fingerprint(benchmark)} | fingerprints,
        "sizes": {"queries": len(benchmark.queries), "passages": len(benchmark.passages)},
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
