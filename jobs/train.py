"""Trains a retriever on hybrid batches and measures it: python jobs/train.py [--config FILE] [--section.key VALUE]."""

import contextlib
import sys
from dataclasses import replace
from pathlib import Path

from jsonargparse import ArgumentError

from hybridir.command_line import parse
from hybridir.recipe import Recipe
from hybridir.secrets import errors_masked

SAMPLE = Path(__file__).parent / "configs" / "sample.yaml"


def main() -> None:
    with errors_masked(ArgumentError, ValueError, FloatingPointError):
        recipe = parse(Recipe, "python jobs/train.py", __doc__, sys.argv[1:], SAMPLE)
        from hybridir.run import here, preview, run_training
        from hybridir.tracking.follow import follow

        with contextlib.ExitStack() as stack:
            backend = here(recipe.scaling.use_gpu)
            if recipe.scaling.num_workers:
                from hybridir.on_ray.train import ray_backend

                backend = stack.enter_context(ray_backend(recipe.scaling))
            if recipe.dry_run:
                preview(recipe, backend)
                return
            results = run_training(recipe, replace(backend, track=follow))
        print(results)


if __name__ == "__main__":
    main()
