"""Bytes that nobody should send, from clients and from engines, over real sockets against a router in this process."""
