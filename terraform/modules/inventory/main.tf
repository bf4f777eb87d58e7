# What the cluster consists of, in the one form that roster, grains and pillar are made from. It reaches no provider
# and no host, so that wrong input is refused while Terraform plans.
locals {
  master = one([for name, node in var.nodes : name if contains(node.roles, "master")])

  nodes = {
    for name, node in var.nodes : name => {
      address         = node.address
      private_address = node.private_address
      roles           = sort(node.roles)
      disks           = sort(node.disks)
    }
  }
}
