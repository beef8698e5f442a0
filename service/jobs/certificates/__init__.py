"""Certificates of finished jobs, and their verification by running a job again."""
