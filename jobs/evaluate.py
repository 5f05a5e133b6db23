"""Measures retrievers across languages: python jobs/evaluate.py --encoder.name NAME [--section.key VALUE]."""

import sys
from functools import partial

from hybridir.runtime.job import job


def main() -> None:
    with job(sys.argv[1:]) as stack:  # slow imports wait until the output folder is locked
        from hybridir.runs.backend import here
        from hybridir.runs.evaluation_run import MOST_USED, Evaluation, preview_evaluation, run_evaluation
        from hybridir.runs.index_job import way_of
        from hybridir.runtime.command_line import parse
        from hybridir.tracking.follow import follow
        from hybridir.tracking.target import named_uris

        recipe = parse(Evaluation, "python jobs/evaluate.py", __doc__, sys.argv[1:], shown=MOST_USED)
        if recipe.dry_run:
            preview_evaluation(recipe)
            return
        backend = here(recipe.scaling.use_gpu)
        if recipe.scaling.num_workers:
            from hybridir.on_ray.train import ray_backend

            backend = stack.enter_context(ray_backend(recipe.scaling))
        way = way_of(recipe.retrieval, recipe.scaling, backend)
        print(run_evaluation(recipe, backend.encode, partial(follow, named=named_uris(sys.argv[1:])), way))


if __name__ == "__main__":
    main()
