# Run by `terraform test`, which plans only, at a cloud that Terraform makes up.
mock_provider "aws" {}

variables {
  cluster       = "lab"
  region        = "eu-central-1"
  ssh           = { public_key = "ssh-ed25519 AAAAC3Nz" }
  allowed_cidrs = ["198.51.100.0/24"]
  nodes = {
    one   = { roles = ["master", "etcd"] }
    two   = { roles = ["etcd", "ceph"], data_disks = { osd = 100 } }
    three = { roles = ["etcd"], size = "t3.small" }
    four  = { data_disks = { old = 50 }, instance = false, zone = "b" }
  }
}

run "cluster" {
  command = plan

  assert {
    condition     = output.inventory.master == "one" && output.inventory.roles.ceph == tolist(["two"])
    error_message = "The inventory lists nodes by role."
  }

  assert {
    condition     = join(" ", keys(aws_instance.node)) == "one three two"
    error_message = "A node without an instance has no instance at AWS."
  }

  assert {
    condition     = join(" ", keys(aws_ebs_volume.data)) == "four/old two/osd"
    error_message = "It keeps its data disk."
  }

  assert {
    condition     = join(" ", keys(aws_volume_attachment.data)) == "two/osd"
    error_message = "Only disks of nodes with an instance are attached."
  }

  assert {
    condition     = aws_instance.node["three"].instance_type == "t3.small" && aws_instance.node["one"].instance_type == "t3.medium"
    error_message = "A size is the node's own, or the default."
  }
}

run "zones" {
  command = plan

  assert {
    condition     = aws_ebs_volume.data["four/old"].availability_zone == "eu-central-1b" && aws_ebs_volume.data["two/osd"].availability_zone == "eu-central-1a"
    error_message = "A data disk is in its node's zone, with or without an instance."
  }

  assert {
    condition     = aws_subnet.zone["b"].availability_zone == "eu-central-1b" && aws_subnet.zone["b"].cidr_block == "10.42.4.0/22"
    error_message = "Each zone has a quarter of the network."
  }
}

run "archive" {
  command = plan

  variables {
    archive = { bucket = "lab-archive", pgp_key = "keybase:lab" }
  }

  assert {
    condition     = aws_iam_access_key.archive[0].pgp_key == "keybase:lab" && aws_iam_user_policy.archive[0].user == "lab-archive"
    error_message = "The archive's key is one user's, and sealed."
  }
}
