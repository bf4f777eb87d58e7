# Hosts that are there already, up to a Salt cluster that answers. Everything is done over SSH, by ssh itself.
locals {
  project = abspath("${path.module}/../..")

  # How ssh reaches a node, in the words of files/over.sh.
  ways = {
    for name, node in var.nodes : name => {
      NODE             = name
      SSH_ADDRESS      = node.address
      SSH_PORT         = tostring(node.port)
      SSH_HOST_KEY     = trimspace(node.host_key)
      SSH_USER         = var.ssh.user
      SSH_KEY_FILE     = var.ssh.key_file == "" ? "" : abspath(pathexpand(var.ssh.key_file))
      BASTION_ADDRESS  = try(var.ssh.bastion.address, "")
      BASTION_PORT     = try(tostring(var.ssh.bastion.port), "")
      BASTION_HOST_KEY = try(trimspace(var.ssh.bastion.host_key), "")
      BASTION_USER     = try(var.ssh.bastion.user, "")
    }
  }
}

module "inventory" {
  source = "../modules/inventory"

  cluster = var.cluster
  nodes = {
    for name, node in var.nodes : name => {
      address         = node.address
      private_address = coalesce(node.private_address, node.address)
      roles           = node.roles
    }
  }
}

module "bootstrap" {
  source = "../modules/bootstrap"

  inventory = module.inventory.inventory
  ways      = local.ways
  project   = local.project
  pillar    = var.pillar == "" ? "${local.project}/pillar" : abspath(var.pillar)
}

module "join" {
  source = "../modules/join"

  inventory = module.inventory.inventory
  ways      = local.ways
  hosts     = module.bootstrap.hosts
  served    = module.bootstrap.served
  drain     = var.drain
}
