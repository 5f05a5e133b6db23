"""MLflow: the driver replays the files of a run's output folder. Only this room imports MLflow."""
