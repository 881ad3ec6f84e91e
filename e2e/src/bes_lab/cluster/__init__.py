"""A Kubernetes to prove the project on: a control plane alone for tests, a whole cluster, and the images on it."""
