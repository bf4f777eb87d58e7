# What cloud-init does at a host's first boot. It says nothing that is secret: whoever is on the host can read it for
# as long as the host lives, and so can whoever reads plan or state. What is secret comes later, over SSH.
locals {
  user_data = templatefile("${path.module}/files/user_data.yaml.tftpl", {
    name       = var.name
    user       = var.user
    public_key = var.public_key
  })
}
