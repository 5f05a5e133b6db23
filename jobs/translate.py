"""Translates pairs into other languages: python jobs/translate.py --data.path FILE --languages '[de, fr]' [...]."""

import sys

from hybridir.runtime.job import job


def main() -> None:
    with job(sys.argv[1:]) as stack:  # slow imports wait until the output folder is locked
        from hybridir.data.intake import read_here
        from hybridir.runs.corpus import ShardReader
        from hybridir.runtime.command_line import parse
        from hybridir.translation.translation_job import Translation, preview_translation, run_translation
        from hybridir.translation.units import Run, translate_here

        recipe = parse(Translation, "python jobs/translate.py", __doc__, sys.argv[1:])
        read: ShardReader = read_here
        run: Run = translate_here
        if recipe.scaling.num_workers:
            from hybridir.on_ray.translate import ray_translation

            read, run = stack.enter_context(ray_translation(recipe.scaling))
        if recipe.dry_run:
            preview_translation(recipe, read, run)
            return
        print(run_translation(recipe, read, run))


if __name__ == "__main__":
    main()
