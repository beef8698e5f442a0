"""What a worker runs on: device, threads, files, fingerprint."""
