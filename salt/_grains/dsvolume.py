"""
The grain ``dsvolume``: which policies this node serves, and which store it uses.

.. code-block:: yaml

    dsvolume:
      policies: [local, ram, secure]
      store: embedded

It tells what ``/etc/dsvolume/config.yaml`` and ``dsvolume:`` in the minion's configuration say;
pillar comes after grains. Where these cannot be read, ``policies`` is empty and ``error`` says
why. ``salt -G 'dsvolume:policies:local' ...`` reaches the nodes that serve a policy.
"""

import salt.utils.files
import salt.utils.yaml

FILE = "/etc/dsvolume/config.yaml"

# Those of libstorage.config, which is not imported: grains are there before it is.
POLICIES = ("local", "ram", "secure")
STORE = "embedded"


def dsvolume():
    """The grain; a broken configuration is part of it."""
    policies, store = dict.fromkeys(POLICIES), STORE
    try:
        for where, given in ((FILE, _file()), ("dsvolume", __opts__.get("dsvolume"))):
            settings = _mapping(where, given)
            if "policies" in settings:
                policies = _mapping(f"{where}: policies", settings["policies"])
            if "store" in settings:
                store = _mapping(f"{where}: store", settings["store"]).get("kind", store)
    except ValueError as exc:
        return {"dsvolume": {"policies": [], "store": "", "error": str(exc)}}
    return {"dsvolume": {"policies": sorted(map(str, policies)), "store": str(store)}}


def _file():
    try:
        with salt.utils.files.fopen(FILE, encoding="utf-8") as file:
            return salt.utils.yaml.safe_load(file)
    except FileNotFoundError:
        return None
    # Not the parser's words: they quote the line, which may hold a password.
    except (OSError, UnicodeDecodeError, salt.utils.yaml.YAMLError) as exc:
        raise ValueError(f"{FILE} cannot be read ({type(exc).__name__})") from None


def _mapping(where, value):
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a mapping, not {type(value).__name__}")
    return value
