"""What the schemas do not say of a cloud: names, addresses, and what cannot be changed in place."""

import hashlib
from typing import Any

REPLACED_BY = {
    "digitalocean_droplet": {"image", "region", "user_data", "vpc_uuid", "ssh_keys"},
    "digitalocean_volume": {"region", "name"},
    "digitalocean_volume_attachment": {"droplet_id", "volume_id"},
    "digitalocean_vpc": {"region", "ip_range"},
    "digitalocean_ssh_key": {"public_key"},
    "digitalocean_spaces_bucket": {"name", "region"},
    "digitalocean_tag": {"name"},
    "aws_instance": {"ami", "subnet_id", "availability_zone", "key_name", "placement_group"},
    "aws_ebs_volume": {"availability_zone", "encrypted", "snapshot_id"},
    "aws_volume_attachment": {"device_name", "instance_id", "volume_id"},
    "aws_vpc": {"cidr_block"},
    "aws_subnet": {"vpc_id", "cidr_block", "availability_zone"},
    "aws_security_group": {"name", "description", "vpc_id"},
    "aws_key_pair": {"key_name", "public_key"},
    "aws_placement_group": {"name", "strategy"},
    "aws_s3_bucket": {"bucket"},
    "aws_iam_access_key": {"user", "pgp_key"},
}
"""The attributes whose change replaces a resource, by its type."""

SECRET = "planted-secret-of-the-archive"
"""What stands wherever a cloud would give a secret key in clear words."""

HOSTS = ("digitalocean_droplet", "aws_instance")
"""The types that are machines."""


def name_of(kind: str, number: int) -> str:
    """The identity that a cloud gives to a new resource."""
    if kind in ("digitalocean_droplet", "digitalocean_ssh_key"):
        return str(400_000_000 + number)
    mark = hashlib.sha256(f"{kind}/{number}".encode()).hexdigest()
    if kind.startswith("digitalocean"):
        return "-".join((mark[:8], mark[8:12], mark[12:16], mark[16:20], mark[20:32]))
    return f"{kind.removeprefix('aws_')}-{mark[:17]}"


def made_up(kind: str, name: str, values: dict[str, Any], number: int) -> Any:
    """A computed value, or None where any value will do."""
    identity = name_of(kind, number)
    return {
        "id": identity,
        "arn": f"arn:aws:lab:eu-central-1:123456789012:{identity}",
        "urn": f"do:{kind.removeprefix('digitalocean_')}:{identity}",
        "secret_key": SECRET,
        "secret": None if values.get("pgp_key") else SECRET,
        "encrypted_secret": "c2VhbGVk" if values.get("pgp_key") else None,
        "ipv4_address": f"203.0.113.{number % 250 + 1}",
        "ipv4_address_private": f"10.42.0.{number % 250 + 1}",
        "public_ip": f"203.0.113.{number % 250 + 1}",
        "private_ip": f"10.42.0.{number % 250 + 1}",
        "access_key": f"ACCESS{number}",
        "region": "eu-central-1",
        "bucket_domain_name": f"{values.get('name') or values.get('bucket')}.lab.example",
    }.get(name)


def newer(resources: dict[str, Any]) -> None:
    """
    Make of the schemas of AWS's provider 5 those of 6, where these differ in what the root has.

    Every regional resource can be in a region of its own, and what was deprecated is gone.
    """
    region = {"type": "string", "optional": True, "computed": True}
    for kind, described in resources.items():
        if not kind.startswith("aws_iam_"):
            described["block"]["attributes"]["region"] = region
    instance = resources["aws_instance"]["block"]["attributes"]
    for gone in ("cpu_core_count", "cpu_threads_per_core"):
        del instance[gone]
    bucket = resources["aws_s3_bucket"]["block"]["attributes"]
    bucket["bucket_region"] = {"type": "string", "computed": True}
