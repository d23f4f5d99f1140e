"""How well malignancy is told: scores, calibration, and what a second task adds."""
