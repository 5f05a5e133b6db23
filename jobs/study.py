"""Trains the arms of a study and tests its claims: python jobs/study.py NAME [--config FILE] [--section.key VALUE]."""

import sys
from functools import partial
from pathlib import Path

from hybridir.runtime.job import job

CONFIGS = Path(__file__).parent / "configs"


def main() -> None:
    name, *arguments = sys.argv[1:] or [""]
    with job(arguments) as stack:  # slow imports wait until the output folder is locked
        from hybridir.experiments.one_run import Runner, arms_here
        from hybridir.experiments.quick import check_quick
        from hybridir.experiments.studies import STUDIES
        from hybridir.experiments.study_job import preview_study, run_study
        from hybridir.runs.backend import here
        from hybridir.runs.recipe import MOST_USED
        from hybridir.runtime.command_line import parse
        from hybridir.runtime.words import did_you_mean
        from hybridir.tracking.follow import follow
        from hybridir.tracking.nested import record
        from hybridir.tracking.target import named_uris

        known = "\n".join(f"  {study.name:14}{study.title}" for study in STUDIES.values())
        if name in ("-h", "--help"):
            print(f"{__doc__}\n\nstudies (more about one: python jobs/study.py NAME --help):\n{known}")
            return
        if name not in STUDIES:
            near = did_you_mean(name, STUDIES)
            raise ValueError(f"there is no study {name!r}{near}: name one of these, python jobs/study.py NAME\n{known}")
        study = STUDIES[name]
        shown = (*MOST_USED, "quick", *sorted(study.own_fields))
        recipe = parse(
            study.recipe, f"python jobs/study.py {name}", study.title, arguments, CONFIGS / study.sample, shown
        )
        check_quick(recipe, arguments)
        if recipe.dry_run:
            preview_study(study, recipe)
            return
        named = named_uris(arguments)
        track, record_run = partial(follow, named=named), partial(record, named=named)
        start, at_once = arms_here(here(recipe.scaling.use_gpu)), 1
        if recipe.scaling.num_workers:
            from hybridir.on_ray.many import ray_arms

            arms = stack.enter_context(ray_arms(recipe.scaling))
            start, at_once = arms.start, arms.at_once
        page, failed = run_study(study, recipe, Runner(start, at_once, track, record_run))
        print(page)
        if failed:
            sys.exit(f"error: {failed} runs failed, see the page: correct the cause, and continue with --resume")


if __name__ == "__main__":
    main()
