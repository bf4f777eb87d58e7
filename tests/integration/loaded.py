"""Salt's loaders in this process, made to work where a test wants them to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lab.site import LEASE, Site

TIMEOUT = 20


@contextmanager
def working_on(opts: dict[str, Any], modules: Any, site: Site) -> Iterator[None]:
    """Within, the module dsvolume works on the site."""
    dsvolume = opts["dsvolume"]
    before = dict(dsvolume)
    dsvolume |= {"root": str(site.root), "lease": LEASE, "timeout": TIMEOUT}
    dsvolume["trash"] = site.settings()["trash"]
    dsvolume["capacity"] = {"near_full": 100}  # a full disk of the test host changes nothing
    modules["dsvolume.version"]()  # makes the one manager, which state runs find and use too
    try:
        yield
    finally:
        dsvolume.clear()
        dsvolume |= before
        modules.pack["__context__"].pop("dsvolume.manager").close()


class States:
    """
    The states of dsvolume, one at a time: ``states.present("v", test=True, policy="local")``.

    ``run`` runs several in one go, as a state file would: ``run([("present", "v", {...}), ...])``.
    """

    def __init__(self, loader: Any, modules: Any) -> None:
        self._loader = loader
        self._modules = modules

    def __getattr__(self, function: str) -> Callable[..., dict[str, Any]]:
        def call(name: str, *, test: bool = False, **arguments: Any) -> dict[str, Any]:
            options = self._loader.pack["__opts__"]
            before = options["test"]
            options["test"] = test
            try:
                answer: dict[str, Any] = self._loader[f"dsvolume.{function}"](name, **arguments)
            finally:
                options["test"] = before
            return answer

        return call

    def run(
        self, steps: list[tuple[str, str, dict[str, Any]]], *, test: bool = False
    ) -> list[dict[str, Any]]:
        """Run states in order, in one state run; their answers."""
        high = {
            f"step {number}": {
                "dsvolume": [
                    function,
                    {"name": name},
                    *({k: v} for k, v in arguments.items()),
                    {"order": number},
                ],
                "__sls__": "steps",
                "__env__": "base",
            }
            for number, (function, name, arguments) in enumerate(steps, 1)
        }
        answers = self._modules["state.high"](high, test=test)
        assert isinstance(answers, dict), answers
        return sorted(answers.values(), key=lambda answer: answer["__run_num__"])
