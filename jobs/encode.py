"""Makes or extends an index of passages: python jobs/encode.py --path FILE --encoder.name NAME --output INDEX [...]."""

import sys

from hybridir.runtime.job import job


def main() -> None:
    with job(sys.argv[1:]) as stack:  # slow imports wait until the output folder is locked
        from hybridir.retrieval.encode_shards import Run, encode_shards_here
        from hybridir.runs.index_job import Encoding, run_encoding
        from hybridir.runtime.command_line import parse

        recipe = parse(Encoding, "python jobs/encode.py", __doc__, sys.argv[1:])
        run: Run = encode_shards_here
        if recipe.scaling.num_workers:
            from hybridir.on_ray.encode_shards import ray_encoding

            run = stack.enter_context(ray_encoding(recipe.scaling))
        print(run_encoding(recipe, run))


if __name__ == "__main__":
    main()
