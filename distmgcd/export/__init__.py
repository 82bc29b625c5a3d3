"""A trained model as a small folder of its own: to give to somebody, or to come with the package."""
