"""
A real etcd cluster, of one member or three, on free ports of the loopback.

    with Cluster(folder) as cluster:
        store = EtcdStore(EtcdSettings.read(cluster.store("/a")), describe=dict)
        cluster.members[0].kill()

A server ends with the thread that started it, whatever happens to that: start it in one that stays.
"""

import datetime
import http.client
import ipaddress
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import time
from base64 import b64encode
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BUILT = Path(__file__).resolve().parents[2] / "build/etcd/usr/bin/etcd"
HOST = "127.0.0.1"
USER = "dsvolume"


def program() -> str:
    """The server: the one that is installed, or the one that ``make setup`` has unpacked."""
    found = shutil.which("etcd") or (str(BUILT) if BUILT.exists() else "")
    assert found, "there is no etcd on this host: run make setup"
    return found


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Member:
    """One server of a cluster."""

    def __init__(self, cluster: "Cluster", name: str, port: int, peer: int) -> None:
        self.name = name
        self.port = port
        self.peer = f"http://{HOST}:{peer}"
        self.process: subprocess.Popen[bytes] | None = None
        self._cluster = cluster

    @property
    def endpoint(self) -> str:
        return f"http{'s' if self._cluster.tls else ''}://{HOST}:{self.port}"

    def start(self) -> None:
        """Start it, with the data that it has; not waited for."""
        folder = self._cluster.folder
        settings = {
            "name": self.name,
            "data-dir": folder / self.name,
            "listen-client-urls": self.endpoint.replace(HOST, self._cluster.listen),
            "advertise-client-urls": self.endpoint,
            "listen-peer-urls": self.peer,
            "initial-advertise-peer-urls": self.peer,
            "initial-cluster": ",".join(f"{m.name}={m.peer}" for m in self._cluster.members),
            # A lease runs three halves of the election's time-out at least.
            "heartbeat-interval": 50,
            "election-timeout": 500,
            **self._cluster.options,
        }
        command = ["setpriv", "--pdeathsig", "KILL", program()]
        with open(folder / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(
                [*command, *(f"--{name}={value}" for name, value in settings.items())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={k: v for k, v in os.environ.items() if not k.startswith("ETCD_")},
                start_new_session=True,
            )

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it, as a crash does, or with SIGTERM as its service does."""
        if self.process is not None:
            self.process.send_signal(number)
            self.thaw()
            self.process.wait(20)

    def freeze(self) -> None:
        """Stop it: its connections stay, and nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def request(self, path: str, body: dict[str, Any], timeout: float = 10) -> dict[str, Any]:
        """Ask this server something; raises OSError where it does not answer."""
        context = self._cluster.context if self._cluster.tls else None
        connection = (
            http.client.HTTPSConnection(HOST, self.port, timeout=timeout, context=context)
            if context
            else http.client.HTTPConnection(HOST, self.port, timeout=timeout)
        )
        headers = {"Authorization": self._cluster.token} if self._cluster.token else {}
        with closing(connection):
            try:
                connection.request("POST", f"/v3/{path}", json.dumps(body), headers)
                answer = json.loads(connection.getresponse().read() or b"{}")
            except (http.client.HTTPException, ValueError) as exc:
                raise OSError(str(exc)) from exc
        assert "error" not in answer, answer
        return answer


class Cluster:
    """
    Members that know each other.

    tls
        Clients speak TLS and need a certificate of the cluster's own authority.
    auth
        Clients need a user and a password: USER, who may use what is below ``/``.
    listen
        The address that they listen at for clients, where it is another than the loopback's.
    options
        Further options of every server, without their dashes.
    """

    def __init__(
        self,
        folder: Path,
        members: int = 1,
        *,
        tls: bool = False,
        auth: bool = False,
        listen: str = HOST,
        **options: Any,
    ) -> None:
        self.folder = folder
        self.tls = tls
        self.auth = auth
        self.listen = listen
        self.token = ""
        self.password = secrets.token_hex()
        self.options = {name.replace("_", "-"): value for name, value in options.items()}
        self.context: ssl.SSLContext | None = None
        ports = free_ports(2 * members)
        self.members = [Member(self, f"m{n}", *ports[2 * n : 2 * n + 2]) for n in range(members)]

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        try:
            if self.tls:
                self._make_certificates()
            for member in self.members:
                member.start()
            self.wait()
            if self.auth:
                self._enable_auth()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def store(self, prefix: str, **over: Any) -> dict[str, Any]:
        """``dsvolume:store`` for this cluster."""
        own: dict[str, Any] = {
            "kind": "etcd",
            "endpoints": [member.endpoint for member in self.members],
            "prefix": prefix,
        }
        if self.tls:
            own |= {name: str(self.folder / f"{name}.pem") for name in ("ca", "cert", "key")}
        if self.auth:
            own |= {"user": USER, "password": self.password}
        return own | over

    def wait(self, seconds: float = 20) -> None:
        """Until every member answers as one of a working cluster."""
        end = time.monotonic() + seconds
        for member in self.members:
            while True:
                try:
                    member.request("kv/range", {"key": text("x")}, timeout=2)
                    break
                except (OSError, AssertionError) as exc:
                    ended = member.process is not None and member.process.poll() is not None
                    if ended or time.monotonic() > end:
                        log = (self.folder / f"{member.name}.log").read_text()[-2000:]
                        raise AssertionError(
                            f"{member.name} does not answer: {exc}\n{log}"
                        ) from exc
                    time.sleep(0.05)

    def leader(self) -> Member:
        """Who leads now."""
        for member in self.members:
            with suppress(OSError):
                status = member.request("maintenance/status", {})
                if status.get("leader") == status["header"]["member_id"]:
                    return member
        raise AssertionError("nobody leads")

    def compact(self, revision: int) -> None:
        """Forget what was before a revision."""
        self.members[0].request("kv/compaction", {"revision": str(revision), "physical": True})

    def close(self) -> None:
        for member in self.members:
            member.kill()

    def _enable_auth(self) -> None:
        ask = self.members[0].request
        root = secrets.token_hex()
        ask("auth/user/add", {"name": "root", "password": root})
        ask("auth/user/grant", {"user": "root", "role": "root"})
        ask("auth/role/add", {"name": USER})
        permission = {"permType": "READWRITE", "key": text("/"), "range_end": text("0")}
        ask("auth/role/grant", {"name": USER, "perm": permission})
        ask("auth/user/add", {"name": USER, "password": self.password})
        ask("auth/user/grant", {"user": USER, "role": USER})
        ask("auth/enable", {})
        self.token = ask("auth/authenticate", {"name": "root", "password": root})["token"]

    def _make_certificates(self) -> None:
        """
        ``ca``; ``cert`` and ``key`` for clients; ``server``; ``named``, for a client too.

        The latter has a common name, which etcd's JSON gateway does not take beside a password.
        """
        authority = ec.generate_private_key(ec.SECP256R1())
        organisation, common = NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME
        self._write("ca", None, organisation, authority, authority)
        for name, key_name, subject in (
            ("cert", "key", organisation),
            ("server", "server-key", common),
            ("named", "named-key", common),
        ):
            own = ec.generate_private_key(ec.SECP256R1())
            self._write(name, key_name, subject, own, authority)
        self.options |= {
            "cert-file": self.folder / "server.pem",
            "key-file": self.folder / "server-key.pem",
            "trusted-ca-file": self.folder / "ca.pem",
            "client-cert-auth": "true",
        }
        self.context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        self.context.load_cert_chain(self.folder / "cert.pem", self.folder / "key.pem")

    def _write(
        self,
        name: str,
        key_name: str | None,
        subject: x509.ObjectIdentifier,
        own: ec.EllipticCurvePrivateKey,
        authority: ec.EllipticCurvePrivateKey,
    ) -> None:
        now = datetime.datetime.now(datetime.UTC)
        # etcd's JSON gateway shows the server's certificate to the server itself, as a client.
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        address = x509.IPAddress(ipaddress.ip_address(HOST))
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(subject, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "ca")]))
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=key_name is None, path_length=None), True)
        )
        # Newer Pythons insist on all of these.
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
        builder = builder.add_extension(signer, False)
        if key_name is None:
            identifier = x509.SubjectKeyIdentifier.from_public_key(own.public_key())
            builder = builder.add_extension(identifier, False)
            builder = builder.add_extension(_may_sign(), True)
        else:
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), False)
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
        certificate = builder.sign(authority, hashes.SHA256())
        pem = serialization.Encoding.PEM
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        if key_name is not None:
            path = self.folder / f"{key_name}.pem"
            path.touch(mode=0o600)
            form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            path.write_bytes(own.private_bytes(pem, form, none))


def _may_sign() -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: name == "key_cert_sign" for name in names})


def text(value: str) -> str:
    """A key or value as etcd's JSON has it."""
    return b64encode(value.encode()).decode()
