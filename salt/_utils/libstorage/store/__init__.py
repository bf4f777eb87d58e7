"""The cluster's one truth: keys, values, transactions. No meaning."""

from ..config import Config
from ..errors import ConfigInvalid
from .contract import Describe, Store


def open_store(config: Config, describe: Describe) -> Store:
    """The store that the configuration names; nothing is opened before its first use."""
    kind = config.store.get("kind")
    if kind == "etcd":
        from .etcd import EtcdStore  # noqa: PLC0415 - only the store in use is loaded
        from .etcd_settings import EtcdSettings  # noqa: PLC0415

        settings = EtcdSettings.read(config.revealed_store())
        return EtcdStore(settings, describe=describe, lease=config.lease)
    if kind != "embedded":
        raise ConfigInvalid(f"dsvolume:store:kind must be embedded or etcd, not {kind!r}")
    if others := [name for name, value in config.store.items() if value and name != "kind"]:
        # Who names endpoints means etcd: a store of this host's own would part it from the others.
        raise ConfigInvalid(
            f"dsvolume:store:{others[0]} is no setting of the embedded store; set kind: etcd"
        )
    from .embedded import EmbeddedStore  # noqa: PLC0415 - only the store in use is loaded

    return EmbeddedStore(
        config.root / "store" / "libstorage.db", describe=describe, lease=config.lease
    )
