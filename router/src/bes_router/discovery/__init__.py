"""Which engines run, and where: a list, or the EndpointSlices of a cluster, watched beside the data path.

What was found last stays until something else is: an API server that is gone costs news, not requests.
"""
