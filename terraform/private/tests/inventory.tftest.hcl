# Run by `terraform test`, which plans only: no host is reached.
variables {
  cluster = "lab"
  nodes = {
    one   = { address = "192.0.2.1", host_key = "ssh-ed25519 AAAAC3Nz", roles = ["master", "etcd"] }
    two   = { address = "192.0.2.2", host_key = "ssh-ed25519 AAAAC3Nz", roles = ["etcd", "docker"], private_address = "10.0.0.2" }
    three = { address = "192.0.2.3", host_key = "ssh-ed25519 AAAAC3Nz", roles = ["etcd"] }
  }
}

run "inventory" {
  command = plan

  assert {
    condition     = output.inventory.master == "one"
    error_message = "The node with the role master is the master."
  }

  assert {
    condition     = output.inventory.nodes["two"].private_address == "10.0.0.2" && output.inventory.nodes["one"].private_address == "192.0.2.1"
    error_message = "Without a private address the address is meant."
  }

  assert {
    condition     = output.inventory.roles.etcd == tolist(["one", "three", "two"])
    error_message = "Nodes are listed by role, sorted."
  }
}
