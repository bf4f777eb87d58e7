# Run by `terraform test`, which plans only, at a cloud that Terraform makes up.
mock_provider "digitalocean" {}

variables {
  cluster       = "lab"
  region        = "fra1"
  ssh           = { public_key = "ssh-ed25519 AAAAC3Nz" }
  allowed_cidrs = ["198.51.100.0/24"]
  nodes = {
    one   = { roles = ["master", "etcd"] }
    two   = { roles = ["etcd", "ceph"], data_disks = { osd = 100 } }
    three = { roles = ["etcd"], size = "s-1vcpu-2gb" }
    four  = { data_disks = { old = 50 }, instance = false }
  }
}

run "cluster" {
  command = plan

  assert {
    condition     = output.inventory.master == "one" && output.inventory.roles.ceph == tolist(["two"])
    error_message = "The inventory lists nodes by role."
  }

  assert {
    condition     = output.inventory.nodes["two"].disks == tolist(["/dev/disk/by-id/scsi-0DO_Volume_lab-two-osd"])
    error_message = "A data disk is known by the device that its host has."
  }

  assert {
    condition     = join(" ", keys(digitalocean_droplet.node)) == "one three two"
    error_message = "A node without an instance has no droplet."
  }

  assert {
    condition     = join(" ", keys(digitalocean_volume.data)) == "four/old two/osd"
    error_message = "It keeps its data disk."
  }

  assert {
    condition     = join(" ", keys(digitalocean_volume_attachment.data)) == "two/osd"
    error_message = "Only disks of nodes with an instance are attached."
  }

  assert {
    condition     = digitalocean_droplet.node["three"].size == "s-1vcpu-2gb" && digitalocean_droplet.node["one"].size == "s-2vcpu-4gb"
    error_message = "A size is the node's own, or the default."
  }
}

run "archive" {
  command = plan

  variables {
    archive = { bucket = "lab-archive" }
  }

  assert {
    condition     = digitalocean_spaces_key.archive[0].grant[0].bucket == "lab-archive" && digitalocean_spaces_key.archive[0].grant[0].permission == "readwrite"
    error_message = "The archive's key is good for its bucket alone."
  }
}
