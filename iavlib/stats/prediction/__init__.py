"""How well agreement is predicted, and what the predictions are good for."""
