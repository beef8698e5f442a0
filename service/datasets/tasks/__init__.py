"""What reads users' files, each task in a process of its own: `python -m service.datasets.tasks.<task>`."""
