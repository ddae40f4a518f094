"""The service: joins the connectors and the inference core to storage, queue and web."""
