"""A training as a Kubernetes Job: an order comes in as a file, one immutable ConfigMap goes out."""
