"""How good samples are: distances to held-out images, and sheets for the eye. torch only."""
