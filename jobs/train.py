"""Trains a retriever on hybrid batches and measures it: python jobs/train.py [--config FILE] [--section.key VALUE]."""

import contextlib
import sys
from dataclasses import replace
from pathlib import Path

from jsonargparse import ArgumentError, ArgumentParser

from hybridir.recipe import Recipe
from hybridir.secrets import errors_masked

SAMPLE = Path(__file__).parent / "configs" / "sample.yaml"


def parse(arguments: list[str]) -> Recipe:
    """The recipe; without --config that of the embedded sample."""
    parser = ArgumentParser(prog="python jobs/train.py", description=__doc__, exit_on_error=False)
    parser.add_argument("--config", action="config", help=f"YAML file; {SAMPLE.name} when omitted")
    parser.add_class_arguments(Recipe)
    arguments = [f"{argument}=true" if argument in ("--resume", "--dry_run") else argument for argument in arguments]
    if not any(argument.split("=")[0] == "--config" for argument in arguments):
        arguments = ["--config", str(SAMPLE), *arguments]
    recipe = parser.instantiate(parser.parse_args(arguments))
    del recipe["config"]
    return Recipe(**recipe)


def main() -> None:
    with errors_masked(ArgumentError, ValueError, FloatingPointError):
        recipe = parse(sys.argv[1:])
        from hybridir.run import HERE, preview, run_training
        from hybridir.tracking.follow import follow

        with contextlib.ExitStack() as stack:
            backend = HERE
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
