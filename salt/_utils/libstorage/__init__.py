"""
libstorage: volumes for container hosts, kept consistent through one store.

The way in is :func:`libstorage.managers.open_manager`. Arrows run one way:
manager -> controllers, store, host -> records, errors.
"""

__version__ = "0.1.0"
