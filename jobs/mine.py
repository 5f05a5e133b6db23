"""Mines hard negatives for pairs from an index: python jobs/mine.py --data.path FILE --index INDEX [...]."""

import sys
from functools import partial

from hybridir.runtime.job import job


def main() -> None:
    with job(sys.argv[1:]) as stack:  # slow imports wait until the output folder is locked
        from hybridir.retrieval.encode_shards import Run, encode_shards_here
        from hybridir.runs.backend import here
        from hybridir.runs.mine_job import Mining, run_mining
        from hybridir.runs.mine_rounds import run_rounds
        from hybridir.runtime.command_line import parse
        from hybridir.tracking.follow import follow

        recipe = parse(Mining, "python jobs/mine.py", __doc__, sys.argv[1:])
        backend = here(recipe.scaling.use_gpu)
        encode_shards: Run = encode_shards_here
        if recipe.scaling.num_workers:
            from hybridir.on_ray.encode_shards import encode_shards_on_ray
            from hybridir.on_ray.train import ray_backend

            backend = stack.enter_context(ray_backend(recipe.scaling))
            encode_shards = partial(encode_shards_on_ray, recipe.scaling)
        if recipe.training:
            print(run_rounds(recipe, backend, encode_shards, follow))
        else:
            print(run_mining(recipe, backend.encode, backend.read))


if __name__ == "__main__":
    main()
