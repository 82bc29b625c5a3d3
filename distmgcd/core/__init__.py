"""The method, in torch only: no config, no files, no Ray."""
