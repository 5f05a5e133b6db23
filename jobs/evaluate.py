"""Measures retrievers across languages: python jobs/evaluate.py --encoder.name NAME [--section.key VALUE]."""

import contextlib
import sys

from jsonargparse import ArgumentError

from hybridir.command_line import parse
from hybridir.evaluation import Evaluation, preview_evaluation, run_evaluation
from hybridir.secrets import errors_masked


def main() -> None:
    with errors_masked(ArgumentError, ValueError), contextlib.ExitStack() as stack:
        recipe = parse(Evaluation, "python jobs/evaluate.py", __doc__, sys.argv[1:])
        if recipe.dry_run:
            preview_evaluation(recipe)
            return
        from hybridir.run import here
        from hybridir.tracking.follow import follow

        backend = here(recipe.scaling.use_gpu)
        if recipe.scaling.num_workers:
            from hybridir.on_ray.train import ray_backend

            backend = stack.enter_context(ray_backend(recipe.scaling))
        print(run_evaluation(recipe, backend.encode, follow))


if __name__ == "__main__":
    main()
