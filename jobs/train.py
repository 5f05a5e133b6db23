"""Trains a retriever on hybrid batches and measures it: python jobs/train.py [--config FILE] [--section.key VALUE]."""

import sys
from pathlib import Path

from jsonargparse import ArgumentParser

from hybridir.recipe import Recipe

SAMPLE = Path(__file__).parent / "configs" / "sample.yaml"


def parse(arguments: list[str]) -> Recipe:
    """The recipe; without --config that of the embedded sample."""
    parser = ArgumentParser(prog="python jobs/train.py", description=__doc__)
    parser.add_argument("--config", action="config", help=f"YAML file; {SAMPLE.name} when omitted")
    parser.add_class_arguments(Recipe)
    arguments = [f"{argument}=true" if argument in ("--resume", "--dry_run") else argument for argument in arguments]
    if not any(argument.split("=")[0] == "--config" for argument in arguments):
        arguments = ["--config", str(SAMPLE), *arguments]
    recipe = parser.instantiate(parser.parse_args(arguments))
    del recipe["config"]
    return Recipe(**recipe)


def main() -> None:
    try:
        recipe = parse(sys.argv[1:])
        if recipe.dry_run:
            from hybridir.run import preview

            preview(recipe)
            return
        if recipe.scaling.num_workers:
            from hybridir.on_ray.train import run_on_ray

            results = run_on_ray(recipe)
        else:
            from hybridir.run import HERE, run_training

            results = run_training(recipe, HERE)
    except (ValueError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    print(results)


if __name__ == "__main__":
    main()
