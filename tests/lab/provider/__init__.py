"""
A stand-in for a cloud: Terraform's provider of it, as far as a schema and a little knowledge go.

    with Provider("digitalocean") as cloud:
        terraform.environment |= cloud.environment
        terraform.apply()
        assert cloud.of("digitalocean_droplet")

It speaks Terraform's plugin protocol 6 from within this process, checks nothing but types, and
keeps what was created, so that a thing which is deleted behind Terraform's back is missed. Its
schemas (``digitalocean.json`` of 2.99.1, ``aws.json`` of 5.100.0) are those of the real providers,
cut down to what the roots use.
"""

from lab.provider.server import Provider

__all__ = ["Provider"]
