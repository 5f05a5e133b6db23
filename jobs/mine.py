"""Mines hard negatives for pairs from an index: python jobs/mine.py --data.path FILE --index INDEX [...]."""

import sys

from hybridir.runtime.job import job


def main() -> None:
    with job(sys.argv[1:]) as stack:  # slow imports wait until the output folder is locked
        from hybridir.runs.backend import here
        from hybridir.runs.mine_job import Mining, run_mining
        from hybridir.runs.mine_rounds import run_rounds
        from hybridir.runtime.command_line import parse
        from hybridir.tracking.follow import follow

        recipe = parse(Mining, "python jobs/mine.py", __doc__, sys.argv[1:])
        backend = here(recipe.scaling.use_gpu)
        if recipe.scaling.num_workers:
            from hybridir.on_ray.train import ray_backend

            backend = stack.enter_context(ray_backend(recipe.scaling))
        print(run_rounds(recipe, backend, follow) if recipe.training else run_mining(recipe, backend))


if __name__ == "__main__":
    main()
