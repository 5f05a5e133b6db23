"""Searches an index: python jobs/search.py INDEX ['a question in any language'] [--languages '[de, fr]'] [--k 10]."""

import sys
from dataclasses import replace
from itertools import takewhile

from hybridir.runtime.job import job


def main() -> None:
    with job([]):
        from hybridir.runs.search_job import Search, run_search
        from hybridir.runtime.command_line import parse

        given = list(takewhile(lambda one: not one.startswith("-"), sys.argv[1:]))
        if len(given) > 2:
            raise ValueError(f"{given[2]!r} is one too many: put the question in quotes")
        arguments = [*(["--index", given[0]] if given else []), *sys.argv[1 + len(given) :]]
        recipe = parse(Search, "python jobs/search.py", __doc__, arguments)
        run_search(replace(recipe, question=given[1]) if given[1:] else recipe)


if __name__ == "__main__":
    main()
