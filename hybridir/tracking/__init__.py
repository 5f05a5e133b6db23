"""MLflow: the driver replays the files of a run's output folder; the only place that names MLflow."""
