"""What several commands use: the command line, the keys they share, rows, models, a run's folder, what it shows."""
