"""Measures retrievers across languages: python jobs/evaluate.py --encoder.name NAME [--section.key VALUE]."""

import contextlib
import sys
from pathlib import Path

from jsonargparse import ArgumentError

from hybridir.runtime.owner import named_output, own
from hybridir.runtime.secrets import errors_masked
from hybridir.runtime.signals import interruptible


def main() -> None:
    expected = (ArgumentError, ValueError, MemoryError, OSError)
    with interruptible(), errors_masked(*expected), contextlib.ExitStack() as stack:
        if output := named_output(sys.argv[1:]):  # refused before anything heavy is imported, if it is another's
            stack.enter_context(own(Path(output).absolute()))
        from hybridir.runs.backend import here
        from hybridir.runs.evaluation_run import Evaluation, preview_evaluation, run_evaluation
        from hybridir.runtime.command_line import parse
        from hybridir.tracking.follow import follow

        recipe = parse(Evaluation, "python jobs/evaluate.py", __doc__, sys.argv[1:])
        if recipe.dry_run:
            preview_evaluation(recipe)
            return
        backend = here(recipe.scaling.use_gpu)
        if recipe.scaling.num_workers:
            from hybridir.on_ray.train import ray_backend

            backend = stack.enter_context(ray_backend(recipe.scaling))
        print(run_evaluation(recipe, backend.encode, follow))


if __name__ == "__main__":
    main()
