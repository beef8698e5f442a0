"""What all endpoints share: problems, strict JSON, limits, negotiation, idempotency."""
