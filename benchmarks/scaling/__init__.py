"""How far a job scales: a model of the exchange with measured costs."""
