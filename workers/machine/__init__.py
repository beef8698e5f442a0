"""The machine that a worker runs on: device, threads, files, fingerprint."""
