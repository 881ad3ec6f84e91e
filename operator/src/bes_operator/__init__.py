"""BestEffortService -> objects on Kubernetes; objects -> status."""
