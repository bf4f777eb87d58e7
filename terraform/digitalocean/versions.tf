terraform {
  required_version = ">= 1.9"

  required_providers {
    digitalocean = {
      source  = "digitalocean/digitalocean"
      version = ">= 2.50, < 3.0"
    }
  }
}

# The token comes from DIGITALOCEAN_TOKEN, and what makes the archive's bucket from SPACES_ACCESS_KEY_ID and
# SPACES_SECRET_ACCESS_KEY in the environment.
provider "digitalocean" {}
