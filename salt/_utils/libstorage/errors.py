"""
What can go wrong, as types.

Each message is one sentence that names the thing, the reason and the way out; the doors
(Salt module, bridge, CLI) show it unchanged.
"""


class LibstorageError(Exception):
    """The base of every error that libstorage raises on purpose."""


class InvalidInput(LibstorageError):
    """The request itself is wrong; nothing was touched."""


class ConfigInvalid(LibstorageError):
    """The configuration is wrong or misses something."""


class NoSuchVolume(LibstorageError):
    """No record and no create in progress has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"No such volume: {name}")
        self.name = name


class NotInTrash(LibstorageError):
    """The trash holds no volume that had this name."""


class NoSuchSnapshot(LibstorageError):
    """The volume has no snapshot of this name."""


class NoSuchProfile(LibstorageError):
    """There is no QoS profile of this name."""


class ProfileExists(LibstorageError):
    """The name is taken by a QoS profile with other limits."""


class ProfileInUse(LibstorageError):
    """Volumes are limited by the QoS profile, or it is the default."""


class VolumeExists(LibstorageError):
    """The name is taken by a volume with other options."""


class VolumeInUse(LibstorageError):
    """Something still holds the volume: a mount, a snapshot, a container, protection."""


class OperationInProgress(LibstorageError):
    """A living owner's operation or mount outlasted the time this call would wait."""


class Superseded(LibstorageError):
    """This process lost the token of its operation; it touches nothing more."""


class StoreUnavailable(LibstorageError):
    """
    The store cannot be read or written now; nothing was begun on the backend.

    unsure
        What was asked may have been done, or may be done yet: a request is on its way.
    """

    unsure = False


class Compacted(LibstorageError):
    """The changes since the revision that a watch asked for are no longer kept."""


class BackendError(LibstorageError):
    """The storage behind a controller refused or failed."""


class NoSpace(BackendError):
    """The backend has no room for what was asked."""


class ToolMissing(BackendError):
    """A command that the work needs is not installed."""


class CommandFailed(BackendError):
    """
    A command ended with an error.

    argv
        The command as it was run.
    status
        Its exit status; negative for a signal.
    words
        The last line that it wrote to standard error (or output).
    """

    def __init__(self, argv: tuple[str, ...], status: int, words: str) -> None:
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        super().__init__(f"{argv[0]} failed ({how}): {words or 'it gave no reason'}")
        self.argv = argv
        self.status = status
        self.words = words


class NoSuchBundle(LibstorageError):
    """There is no bundle of this name below the folder of bundles."""


class NotPlanned(LibstorageError):
    """A bundle has no saved plan, or has changed since it was planned."""


class TerraformFailed(BackendError):
    """Terraform ended with an error; the message has its last words."""


class CommandTimeout(BackendError):
    """A command did not end within its time limit."""


class MountBusy(BackendError):
    """A filesystem cannot be unmounted; the message names who holds it."""


class Damaged(BackendError):
    """A filesystem needs repair by hand; the message names the command."""


class Unsupported(LibstorageError):
    """The volume's controller, or this node, cannot do this."""


class NotHere(LibstorageError):
    """The volume's data, or the mount, belongs to another node."""


class NoSuchNode(LibstorageError):
    """The store knows no node of this name."""


class NodeClosed(NotHere):
    """The node is drained or fenced: it takes no more mounts, or may not touch volumes at all."""


class Elsewhere(NotHere):
    """Another node alone can do it, and its agent lives: it is asked. Nobody gets to see this."""

    def __init__(self, node: str) -> None:
        super().__init__(f"{node} is to do it")
        self.node = node


def rebuilt(kind: str, text: str) -> LibstorageError:
    """An error as another node met it: of its own type, with its sentence."""
    type_ = globals().get(kind, LibstorageError)
    error = LibstorageError.__new__(type_)
    Exception.__init__(error, text)
    return error  # type: ignore[no-any-return]
