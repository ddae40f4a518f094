"""Tags, window, model, outputs and rules: pipelines and their versions."""
