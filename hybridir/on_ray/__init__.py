"""The parts that need Ray. Nothing outside this package and `jobs/` names it."""
